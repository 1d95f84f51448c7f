"""The dtype, shape and layout of what an instruction makes, which the lowering has decided for each value."""

from collections.abc import Sequence

from mochi_aot.artifacts.schema import Instruction
from mochi_aot.compiler.lower.ttnn.lowerer import Tensor
from mochi_aot.tools.golden.types import Chips, GoldenError


def form_problem(result: Chips, decided: Tensor) -> str | None:
    """What distinguishes a result from what it was decided to be; None if nothing does."""
    pieces = {tuple(piece.shape) for piece in result.pieces}
    seen = (result.dtype.name.lower(), result.layout.name.lower(), pieces)
    expected = (decided.dtype, decided.layout, {decided.shape})
    return None if seen == expected else f"expected {expected}, seen {seen}"


def require_forms(made: Sequence[Tensor], instruction: Instruction, results: list[Chips]) -> None:
    """GoldenError for a result that is not as the lowering has `made` it, by value id."""
    for value, result in zip(instruction.results, results, strict=True):
        problem = form_problem(result, made[value])
        if problem is not None:
            raise GoldenError(f"{instruction.op} ({instruction.loc}), value {value}: {problem}")
