"""The one place where ops are made: names results, infers their types and keeps programs consistent."""

import itertools
from collections.abc import Iterable

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.ops import infer
from mochi_aot.compiler.ir.program import Attrs, Input, Op, Output, Param, Program, Recipe, Value
from mochi_aot.compiler.ir.types import TensorType


class Builder:
    """Appends to a program. Value names are `<prefix><n>` unless given."""

    def __init__(self, name: str, mesh: tuple[int, int] | None = None, prefix: str = "") -> None:
        self.program = Program(name, mesh=mesh)
        self._names: set[str] = set()
        self._fresh = (f"{prefix}{n}" for n in itertools.count())

    def _value(self, type: TensorType, name: str | None = None) -> Value:
        if name is None:
            name = next(n for n in self._fresh if n not in self._names)
        elif name in self._names:
            raise IRError(f"value %{name} is defined twice in @{self.program.name}")
        self._names.add(name)
        return Value(name, type)

    def input(self, name: str, type: TensorType, rate: str) -> Value:
        value = self._value(type, name)
        self.program.inputs.append(Input(value, rate))
        return value

    def param(self, name: str, type: TensorType, recipe: Recipe) -> Value:
        value = self._value(type, name)
        self.program.params.append(Param(value, recipe))
        return value

    def output(self, name: str, value: Value) -> None:
        self.program.outputs.append(Output(name, value))

    def emit(self, opcode: str, operands: list[Value], attrs: Attrs | None = None, loc: str = "") -> Value:
        """Append an op with one result, in a program without a mesh, and return the result; its type is inferred."""
        (value,) = self.emit_many(opcode, operands, attrs, loc)
        return value

    def emit_many(self, opcode: str, operands: list[Value], attrs: Attrs | None = None, loc: str = "") -> list[Value]:
        """Append an op as `emit` does, for ops with several results."""
        attrs = attrs or {}
        specs = infer(opcode, attrs, [(v.type.shape, v.type.dtype) for v in operands])
        return self.emit_typed(opcode, operands, [TensorType(*spec) for spec in specs], attrs, loc)

    def emit_typed(
        self, opcode: str, operands: list[Value], types: Iterable[TensorType], attrs: Attrs | None = None, loc: str = ""
    ) -> list[Value]:
        """Append an op whose result types are known, as in a partitioned program, and return its results."""
        op = Op(opcode, operands, [self._value(type) for type in types], attrs or {}, loc)
        self.program.ops.append(op)
        return op.results

    def copy_op(self, op: Op, values: dict[Value, Value]) -> None:
        """Append a copy of `op` on the operands that `values` maps to, and record its results there."""
        operands = [values[v] for v in op.operands]
        results = self.emit_typed(op.opcode, operands, [v.type for v in op.results], dict(op.attrs), op.loc)
        values.update(zip(op.results, results, strict=True))


def copy_signature(program: Program, builder: Builder) -> dict[Value, Value]:
    """Copy inputs and params of `program` into `builder`; return the value map."""
    values: dict[Value, Value] = {}
    for item in program.inputs:
        values[item.value] = builder.input(item.value.name, item.value.type, item.rate)
    for param in program.params:
        values[param.value] = builder.param(param.value.name, param.value.type, param.recipe)
    return values


def attrs_key(attrs: Attrs) -> tuple[tuple[str, str], ...]:
    """Return a hashable form of attributes, for finding equal ops."""
    return tuple(sorted((key, repr(value)) for key, value in attrs.items()))
