"""Finds the first instruction of a program whose results depart from what is expected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.tools.golden.agreement import pcc
from mochi_aot.tools.golden.types import ChipMesh, Chips
from tests.ttnn_golden.runner import Whole, place, run_on_chips


@dataclass(frozen=True)
class Departure:
    """`result` is the instruction's result on chip `chip`, counted from 0; pcc is against what was expected."""

    index: int
    instruction: Instruction
    result: int
    chip: int
    pcc: float


def record(
    program: Program, mesh: ChipMesh, inputs: Mapping[str, Whole | Chips], weights: Mapping[str, Chips]
) -> dict[int, Chips]:
    """What every instruction makes, by value id."""
    made: dict[int, Chips] = {}

    def note(index: int, instruction: Instruction, results: list[Chips]) -> None:
        made.update(zip(instruction.results, results, strict=True))

    run_on_chips(program, mesh, _placed(program, mesh, inputs), weights, note)
    return made


def first_departure(
    program: Program,
    mesh: ChipMesh,
    inputs: Mapping[str, Whole | Chips],
    weights: Mapping[str, Chips],
    expected: Mapping[int, Chips],
    threshold: float = 0.99,
) -> Departure | None:
    """The first result with a PCC below `threshold` on some chip, of those that `expected` has by value id."""
    found: list[Departure] = []

    def check(index: int, instruction: Instruction, results: list[Chips]) -> None:
        for number, (value, result) in enumerate(zip(instruction.results, results, strict=True)):
            wanted_pieces = expected.get(value, result).pieces
            for chip, (actual, wanted) in enumerate(zip(result.pieces, wanted_pieces, strict=True)):
                if found or actual is wanted or _same_padding(actual, wanted, wanted_pieces):
                    continue
                agreement = pcc(actual, wanted)
                if agreement < threshold:
                    found.append(Departure(index, instruction, number, chip, agreement))

    run_on_chips(program, mesh, _placed(program, mesh, inputs), weights, check)
    return found[0] if found else None


def _same_padding(actual: Tensor, wanted: Tensor, everywhere: Sequence[Tensor]) -> bool:
    """Whether a chip has padding alone, one number over and over, which a correlation says nothing of, and has it to
    within a rounding to bfloat8_b, 2^-7, of the largest number on any chip: the number may be what is left of a sum."""
    if actual.shape != wanted.shape or bool((wanted != wanted.flatten()[0]).any()):
        return False
    largest = max(float(piece.double().abs().max()) for piece in everywhere)
    return float((actual.double() - wanted.double()).abs().max()) <= 2**-7 * largest


def _placed(program: Program, mesh: ChipMesh, inputs: Mapping[str, Whole | Chips]) -> dict[str, Chips]:
    return {source.name: place(inputs[source.name], source.spec, mesh) for source in program.inputs}
