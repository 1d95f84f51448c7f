"""Programs: inputs with rates, parameters with recipes, operations in order, named outputs."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np

from mochi_aot.compiler.ir.types import TensorType

Attr = int | float | bool | str | None | list[int] | list[list[int]]
Attrs = dict[str, Attr]


@dataclass(eq=False)
class Value:
    """One SSA value. Identity is the object; `name` is unique within a program."""

    name: str
    type: TensorType


@dataclass(eq=False)
class Op:
    """One operation. `loc` is where in the reference it came from, `file:line` or a pass's name."""

    opcode: str
    operands: list[Value]
    results: list[Value]
    attrs: Attrs = field(default_factory=dict)
    loc: str = ""

    @property
    def result(self) -> Value:
        (value,) = self.results
        return value

    @property
    def values(self) -> list[Value]:
        """What the op reads and makes."""
        return [*self.operands, *self.results]


@dataclass(frozen=True)
class Checkpoint:
    """Recipe: the tensor of this canonical name, cast to the parameter's dtype."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant:
    """Recipe: an array known when tracing, which nobody changes."""

    array: np.ndarray

    @classmethod
    def called(cls, key: str, array: np.ndarray) -> Self:
        """Return the constant whose key is known to be `key`."""
        made = cls(array)
        made.__dict__["key"] = key
        return made

    @cached_property
    def key(self) -> str:
        """Its name: the first 16 hex digits of SHA-256 over dtype, shape and contents, which may be many."""
        digest = hashlib.sha256(f"{self.array.dtype.str}{self.array.shape}".encode())
        digest.update(np.ascontiguousarray(self.array).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Computed:
    """Recipe: an output of another program, which the compiler runs once."""

    program: str
    output: str


@dataclass(frozen=True)
class Quantised:
    """Recipe: of the matrix of this canonical name either its `values` in float8, or the `scales` of its rows: see
    numpy_values.quantised."""

    name: str
    part: str


@dataclass(frozen=True)
class Concat:
    """Recipe: local pieces joined along `dim`, each made by its own recipe under its own type."""

    parts: tuple[tuple["Recipe", TensorType], ...]
    dim: int


VALUES, SCALES = "values", "scales"  # the parts of what is quantised
Recipe = Checkpoint | Constant | Computed | Quantised | Concat


@dataclass(eq=False)
class Input:
    value: Value
    rate: str


@dataclass(eq=False)
class Param:
    value: Value
    recipe: Recipe


@dataclass(eq=False)
class Output:
    name: str
    value: Value


@dataclass(eq=False)
class Program:
    """A straight-line SPMD program. `mesh` is None until it is partitioned."""

    name: str
    inputs: list[Input] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    mesh: tuple[int, int] | None = None

    def values(self) -> Iterator[Value]:
        """Yield every value in definition order."""
        yield from (i.value for i in self.inputs)
        yield from (p.value for p in self.params)
        for op in self.ops:
            yield from op.results

    def users(self) -> dict[Value, list[Op]]:
        """Return the ops that read each value; outputs are not users."""
        table: dict[Value, list[Op]] = {value: [] for value in self.values()}
        for op in self.ops:
            for operand in op.operands:
                table[operand].append(op)
        return table
