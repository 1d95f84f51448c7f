"""Compares each instruction's results on chips with its definition's, on the operands that the chips hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import ttnn

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.runtime.ttnn.placement import pieces_on_host
from mochi_aot.tools.golden.agreement import Agreement, agreement
from mochi_aot.tools.golden.stand_in import stand_in
from mochi_aot.tools.golden.types import ChipMesh, Chips, GoldenError

# From a tensor on chips to what each of them holds.
Read = Callable[[Any], Chips]


def read_chips(tensor: ttnn.Tensor) -> Chips:
    """Return what each chip holds, floats as float32 and whole numbers as int64; chips that hold the same share it."""
    pieces: list[torch.Tensor] = []
    for array in pieces_on_host(tensor):
        piece = torch.from_numpy(array.astype("float32" if array.dtype.kind == "f" else "int64"))
        pieces.append(next((other for other in pieces if torch.equal(other, piece)), piece))
    return Chips(pieces, tensor.dtype, tensor.layout)


@dataclass(frozen=True)
class Compared:
    """An instruction's result that agrees least, and on which chip, counted row by row of the mesh."""

    index: int
    instruction: Instruction
    chip: int
    agreement: Agreement


@dataclass
class Comparison:
    """A watch of one run of a program, which compares each instruction as it is made.

    An operand is as the chips held it when it was made: what they do to it later is found where it is read.
    """

    program: Program
    values: dict[int, Any]  # by value id: what is on chips
    read: Read = read_chips
    compared: list[Compared] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows, columns = self.program.mesh
        self._mesh = ChipMesh(Mesh(rows, columns), rounded=False, defects=False)
        self._context = Context(self._mesh)
        self._held: dict[int, Chips] = {}

    @classmethod
    def of(
        cls, program: Program, inputs: Mapping[str, Any], weights: Mapping[str, Any], read: Read = read_chips
    ) -> "Comparison":
        """Return a watch for a run with these inputs and weights, by name, as the chips hold them."""
        values = {source.value: inputs[source.name] for source in program.inputs}
        return cls(program, values | {weight.value: weights[weight.name] for weight in program.weights}, read)

    def __call__(self, index: int, results: list[Any]) -> None:
        """Compare the results of an instruction: the backend's Watch. Raises GoldenError without a definition."""
        instruction = self.program.instructions[index]
        made = [self.read(result) for result in results]
        expected = self._expected(instruction)
        found = [
            Compared(index, instruction, chip, agreement(actual, wanted))
            for result, definition in zip(made, expected, strict=True)
            for chip, (actual, wanted) in enumerate(zip(result.pieces, definition.pieces, strict=True))
        ]
        self.compared.append(min(found, key=_rank))
        self._held.update(zip(instruction.results, made, strict=True))
        for value in instruction.free:
            self._held.pop(value, None)
            self.values.pop(value, None)

    @property
    def departures(self) -> list[Compared]:
        """Those that depart, in the order of the program: what the first one has made is what the others worked on."""
        return [one for one in self.compared if one.agreement.departs]

    @property
    def worst(self) -> Compared | None:
        """The one with the least PCC."""
        return min(self.compared, key=lambda one: one.agreement.pcc, default=None)

    def _expected(self, instruction: Instruction) -> list[Chips]:
        operands = [self._chips(value) for value in instruction.operands]
        try:
            with torch.inference_mode(), stand_in(self._mesh):
                outcome = OPS[instruction.op](instruction.attrs, self._context)(*operands)
        except RuntimeError as error:  # torch's, for shapes that do not fit
            raise GoldenError(f"{instruction.op} ({instruction.loc}): {error}") from error
        return list(outcome) if isinstance(outcome, tuple | list) else [outcome]

    def _chips(self, value: int) -> Chips:
        if value not in self._held:
            self._held[value] = self.read(self.values[value])
        return self._held[value]


def _rank(one: Compared) -> tuple[bool, float, float]:
    return (not one.agreement.departs, one.agreement.pcc, -one.agreement.error)
