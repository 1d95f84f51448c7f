"""Batches a program over a new leading dimension: one run then serves every denoising step."""

from collections.abc import Callable

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.ops import ELEMENTWISE, integer, ints
from mochi_aot.compiler.ir.program import Op, Program, Value
from mochi_aot.compiler.ir.types import TensorType

LAST_DIM_OPS = frozenset(("linear", "rms_norm"))


def batch(program: Program, rate: str, size: int) -> Program:
    """Return `program` with its inputs of `rate` (each of shape [1]) widened to [size], and all that depends on them.

    Outputs that depend on them gain a leading dimension of `size`. Raise IRError for an op without a batching rule.
    """
    return _Batcher(program, rate, size).run()


class _Batcher:
    def __init__(self, program: Program, rate: str, size: int) -> None:
        self.source, self.rate, self.size = program, rate, size
        self.builder = Builder(program.name)
        self.values: dict[Value, Value] = {}
        self.batched: set[Value] = set()  # of the new program
        self.rules: dict[str, Callable[[Op, list[Value]], Value]] = {
            "reshape": self._reshape,
            "expand": self._expand,
            "permute": self._permute,
            "slice": self._slice,
            "concat": self._concat,
        }

    def run(self) -> Program:
        for item in self.source.inputs:
            if item.rate == self.rate:
                self._widen(item.value)
            else:
                self.values[item.value] = self.builder.input(item.value.name, item.value.type, item.rate)
        for param in self.source.params:
            self.values[param.value] = self.builder.param(param.value.name, param.value.type, param.recipe)
        for op in self.source.ops:
            self._batch_op(op)
        for output in self.source.outputs:
            self.builder.output(output.name, self.values[output.value])
        return self.builder.program

    def _widen(self, value: Value) -> None:
        if value.type.shape != (1,):
            raise IRError(f"%{value.name} of rate {self.rate} has shape {value.type.shape}; only [1] can be batched")
        widened = self.builder.input(value.name, TensorType((self.size,), value.type.dtype), self.rate)
        self._mark(value, self.builder.emit("reshape", [widened], {"shape": [self.size, 1]}, "batch"))

    def _mark(self, value: Value, result: Value) -> None:
        self.values[value] = result
        self.batched.add(result)

    def _batch_op(self, op: Op) -> None:
        operands = [self.values[v] for v in op.operands]
        if not any(v in self.batched for v in operands):
            self.builder.copy_op(op, self.values)
            return
        rule = self._rule(op)
        self._mark(op.result, rule(op, operands))

    def _rule(self, op: Op) -> Callable[[Op, list[Value]], Value]:
        if op.opcode in ELEMENTWISE:
            return self._elementwise
        if op.opcode in LAST_DIM_OPS and all(self.values[v] not in self.batched for v in op.operands[1:]):
            return lambda op, operands: self.builder.emit(op.opcode, operands, op.attrs, op.loc)
        if op.opcode not in self.rules:
            raise IRError(f"no batching rule for {op.opcode} ({op.loc})")
        return self.rules[op.opcode]

    def _elementwise(self, op: Op, operands: list[Value]) -> Value:
        rank = len(op.result.type.shape)
        return self.builder.emit(op.opcode, [self._aligned(v, rank) for v in operands], op.attrs, op.loc)

    def _aligned(self, value: Value, rank: int) -> Value:
        """Return a batched value with ones after its batch dimension, so that it broadcasts as its unbatched self
        did."""
        missing = rank + 1 - len(value.type.shape)
        if value not in self.batched or missing == 0:
            return value
        shape = [self.size] + [1] * missing + list(value.type.shape[1:])
        return self.builder.emit("reshape", [value], {"shape": shape}, "batch")

    def _reshape(self, op: Op, operands: list[Value]) -> Value:
        return self.builder.emit(op.opcode, operands, {"shape": [self.size, *ints(op.attrs["shape"])]}, op.loc)

    def _expand(self, op: Op, operands: list[Value]) -> Value:
        value = self._aligned(operands[0], len(op.result.type.shape))
        return self.builder.emit(op.opcode, [value], {"shape": [self.size, *ints(op.attrs["shape"])]}, op.loc)

    def _permute(self, op: Op, operands: list[Value]) -> Value:
        dims = [0] + [d + 1 for d in ints(op.attrs["dims"])]
        return self.builder.emit(op.opcode, operands, {"dims": dims}, op.loc)

    def _slice(self, op: Op, operands: list[Value]) -> Value:
        return self.builder.emit(op.opcode, operands, {**op.attrs, "dim": integer(op.attrs["dim"]) + 1}, op.loc)

    def _concat(self, op: Op, operands: list[Value]) -> Value:
        wide = [self._expanded(v) for v in operands]
        return self.builder.emit(op.opcode, wide, {"dim": integer(op.attrs["dim"]) + 1}, op.loc)

    def _expanded(self, value: Value) -> Value:
        if value in self.batched:
            return value
        return self.builder.emit("expand", [value], {"shape": [self.size, *value.type.shape]}, "batch")
