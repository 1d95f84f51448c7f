"""Finds the first instruction of a lowered program whose result is not what the IR op it comes from makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.compiler.ir.text import op_text
from mochi_aot.compiler.lower.ttnn.lowerer import Tensor
from mochi_aot.tools.golden.types import Chips, Value
from tests.ttnn_golden.forms import form_problem
from tests.ttnn_golden.ir_values import Wanted
from tests.ttnn_golden.runner import chip_mesh, describe, run_on_chips

# float32 rounds by 2^-24 of a number at most. A sum of the 2048 terms of the longest product errs by sqrt(2048) such
# roundings, 2.7e-6 of its size, as a random walk does; the 42 products that follow each other in three steps of two
# blocks by sqrt(42) times that. Measured were 2e-6 and less.
EXACT = 2e-5
MASKED = -1e29  # what is added to the score of a masked token: a softmax does not tell such numbers apart


@dataclass(frozen=True)
class Wrong:
    """Instruction `index` makes what differs from what it should: `how`, and `by` what. `suspects` are it and the
    instructions that it was made from since what was still right."""

    program: Program
    index: int
    how: str
    by: str
    suspects: list[int]

    def __str__(self) -> str:
        instructions = self.program.instructions
        others = "".join(f"\n  made from {describe(i, instructions[i])}" for i in self.suspects if i != self.index)
        where = f"{self.program.name}, {describe(self.index, instructions[self.index])}"
        return f"{where}: {self.how}\n  {self.by}{others}"


class _FoundError(Exception):
    def __init__(self, wrong: Wrong) -> None:
        self.wrong = wrong


def first_wrong(
    program: Program,
    mesh: tuple[int, int],
    inputs: Mapping[str, Chips],
    weights: Mapping[str, Chips],
    wanted: Mapping[int, list[Wanted]],
    made: Sequence[Tensor] = (),
    tolerance: float = EXACT,
) -> Wrong | None:
    """The first instruction of `program` whose result errs by more than `tolerance`, or is not of the dtype, layout and
    shape that the lowering has `made` it; values in `wanted` are compared.

    The program is run without rounding. So are `inputs`, as the chips hold them, and `weights`.
    """

    def check(index: int, instruction: Instruction, results: list[Chips]) -> None:
        for value, result in zip(instruction.results, results, strict=True):
            problem = form_problem(result, made[value]) if value < len(made) else None
            if problem is not None:
                raise _FoundError(Wrong(program, index, problem, "decided by the lowering", [index]))
            for one in wanted.get(value, []):
                error, chip = _error(one, result.pieces, mesh)
                if not error <= tolerance:
                    how = f"chip {chip} errs by {error:.1e}"
                    suspects = _suspects(program, index, set(wanted))
                    raise _FoundError(Wrong(program, index, how, f"IR: {op_text(one.op)}", suspects))

    try:
        run_on_chips(program, chip_mesh(mesh, rounded=False), inputs, weights, check)
    except _FoundError as found:
        return found.wrong
    return None


def _error(wanted: Wanted, result: Value, mesh: tuple[int, int]) -> tuple[float, int]:
    """The largest error of any chip, relative to the largest magnitude of all, and that chip.

    Infinite where the size is another. Whole numbers may differ by one: what is rounded may lie close to a half.
    """
    errors, largest = [], 0.0
    step = float(wanted.op.opcode == "round" or wanted.type.dtype == "uint8")
    for piece, expected, extent in zip(result, wanted.devices, wanted.extents(mesh), strict=True):
        if piece.numel() != expected.size:
            return float("inf"), len(errors)
        a, b = (x[extent].astype(np.float64) for x in (wanted.held(piece), expected))
        both = (a < MASKED) & (b < MASKED)
        a, b = (np.where(both, 0.0, x) for x in (a, b))
        errors.append(float(np.maximum(np.abs(a - b) - step, 0.0).max(initial=0.0)))
        largest = max(largest, float(np.abs(b).max(initial=0.0)))
    worst = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    return errors[worst] / (largest or 1.0), worst


def _suspects(program: Program, index: int, known: set[int]) -> list[int]:
    """The instruction and those that it was made from, back to values that were compared."""
    makers = {value: i for i, instruction in enumerate(program.instructions) for value in instruction.results}
    found, open_ = set(), [index]
    while open_:
        at = open_.pop()
        found.add(at)
        unknown = (v for v in program.instructions[at].operands if v in makers and v not in known)
        open_ += [makers[v] for v in unknown if makers[v] not in found]
    return sorted(found)
