"""Pairs of instructions that one kernel does: the first one's result goes no further than the second.

What lies between them would be written to memory and read again; it is not rounded either.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from mochi_aot.artifacts.schema import Instruction, Program

SILU_MUL, NORM_ADD, NORM_ROPE, NORM_SILU = "silu_mul", "rms_norm_add", "rms_norm_rope", "group_norm_silu"
_PAIRS = {
    ("silu", "mul"): SILU_MUL,
    ("rms_norm", "add"): NORM_ADD,
    ("rms_norm", "rope"): NORM_ROPE,
    ("group_norm", "silu"): NORM_SILU,
}
FUSED = tuple(_PAIRS.values())


def fuse(program: Program) -> Program:
    """Return the program with each such pair as one instruction, where the second was.

    `silu_mul` has operands a, b: silu(a) * b. `rms_norm_add` has x, the scale and what the norm is added to;
    `rms_norm_rope` x, the scale, cos and sin; `group_norm_silu` what group_norm has. RMS norms without a scale stay.
    """
    uses = Counter(operand for item in program.instructions for operand in item.operands)
    uses.update(output.value for output in program.outputs)
    made = {item.results[0]: index for index, item in enumerate(program.instructions) if len(item.results) == 1}
    fused: dict[int, Instruction | None] = {}
    for index, second in enumerate(program.instructions):
        for value in second.operands:
            if value not in made or uses[value] != 1 or made[value] in fused:
                continue
            pair = _fused(program.instructions[made[value]], second)
            if pair is not None:
                fused |= {made[value]: None, index: pair}
                break
    kept = (fused.get(index, item) for index, item in enumerate(program.instructions))
    return replace(program, instructions=[item for item in kept if item is not None])


def _fused(first: Instruction, second: Instruction) -> Instruction | None:
    """Return the instruction that does both, of which the second reads the first one's result once; None if none
    does."""
    op, (between,) = _PAIRS.get((first.op, second.op)), first.results
    if op is None or (first.op == "rms_norm" and len(first.operands) != 2):
        return None
    if op == NORM_ROPE and second.operands[0] != between:
        return None
    others = _without(second.operands, between)
    free = sorted({*first.free, *second.free} - {between})
    return Instruction(op, [*first.operands, *others], second.results, first.attrs, free, second.loc)


def _without(values: Iterable[int], value: int) -> list[int]:
    return [item for item in values if item != value]
