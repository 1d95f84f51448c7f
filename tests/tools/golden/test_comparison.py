"""The comparison, with definitions in the place of chips, one of which is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import ttnn

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.runtime.executor import Build, Call
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.tools.golden.comparison import Comparison
from mochi_aot.tools.golden.stand_in import stand_in
from mochi_aot.tools.golden.types import Chips, GoldenError
from tests.ttnn_golden.chips import instruction as instruction_of
from tests.ttnn_golden.chips import normal, on_chips
from tests.ttnn_golden.runner import chip_mesh
from tests.ttnn_golden.test_runner import PROGRAM, weights

CHIPS = chip_mesh((2, 2))
Wrong = Callable[[torch.Tensor], torch.Tensor]
# Of one chip's piece [3, 6]; a correlation sees none but the last.
FAULTS: dict[str, Wrong] = {
    "a factor": lambda piece: piece * 1.1,
    "something added": lambda piece: piece + 0.2,
    "zeros": torch.zeros_like,
    "not a number": lambda piece: piece * torch.nan,
    "rows in another order": lambda piece: piece.flip(0),
}


class WithFault(TtnnExecutable):
    """Chips that do one instruction wrong on one of them, by definitions else."""

    def __init__(self, program: Program, held: dict[str, Chips], at: int, chip: int, wrong: Wrong) -> None:
        self._at, self._chip, self._wrong = at, chip, wrong
        super().__init__(program, CHIPS, held)

    def _builder(self) -> Build:
        right, built = super()._builder(), iter(range(1000))

        def build(instruction: Instruction) -> Call | None:
            call = right(instruction)
            return self._with_fault(call) if next(built) == self._at and call is not None else call

        return build

    def _with_fault(self, call: Call) -> Call:
        def spoiled(*tensors: Any) -> Chips:
            made: Chips = call(*tensors)
            pieces = [p if chip != self._chip else self._wrong(p) for chip, p in enumerate(made.pieces)]
            return Chips(pieces, made.dtype, made.layout)

        return spoiled


def widened(value: Chips) -> Chips:
    """As chips are read: floats as float32."""
    return Chips([p.float() if p.is_floating_point() else p.long() for p in value.pieces], value.dtype, value.layout)


def inputs() -> dict[str, Chips]:
    """x [6, 8], a quarter on each chip."""
    whole = normal(0, 6, 8)
    quarters = [whole[3 * column :][:3, 4 * row :][:, :4].bfloat16() for row in (0, 1) for column in (0, 1)]
    return {"x": on_chips(quarters, ttnn.ROW_MAJOR_LAYOUT)}


def compared(at: int, chip: int, wrong: Wrong) -> Comparison:
    given, held = inputs(), weights()
    comparison = Comparison.of(PROGRAM, given, held, widened)
    with stand_in(CHIPS):
        WithFault(PROGRAM, held, at, chip, wrong).run(given, comparison)
    return comparison


def test_all_is_right_without_a_fault() -> None:
    comparison = compared(-1, 0, torch.zeros_like)
    assert [one.index for one in comparison.compared] == [0, 1, 2] and comparison.departures == []
    # bfloat16 results against float32 definitions of the same operands: 2^-8 of each number at most.
    assert comparison.worst is not None and 0.9999 < comparison.worst.agreement.pcc < 1
    assert max(one.agreement.error for one in comparison.compared) < 2**-8


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("chip", [0, 3])
def test_the_one_wrong_instruction_is_named_and_no_other(fault: str, at: int, chip: int) -> None:
    """Those after it work on what it has made, and are right about that."""
    (departure,) = compared(at, chip, FAULTS[fault]).departures
    assert (departure.index, departure.chip) == (at, chip)
    assert departure.instruction is PROGRAM.instructions[at]


def test_values_are_let_go_as_the_program_frees_them() -> None:
    comparison = compared(-1, 0, torch.zeros_like)
    assert set(comparison.values) == {1} and set(comparison._held) == {1, 4}  # the weight, and the output


def test_an_instruction_without_a_definition_is_named() -> None:
    shape = instruction_of("reshape", [0], [1], [], shape=[7, 7])
    comparison = Comparison(PROGRAM, {0: inputs()["x"]}, widened)
    object.__setattr__(comparison, "program", Program("p", [2, 2], "", [], [], [], [shape], PROGRAM.stats))
    with pytest.raises(GoldenError, match=r"reshape \(reshape.py:1\): shape '\[7, 7\]' is invalid"):
        comparison(0, [inputs()["x"]])
