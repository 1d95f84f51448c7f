"""The first block of the transformer alone: a program that is short, and has each op of the others in it."""

from dataclasses import replace

from mochi_aot.artifacts.schema import Program

_ATTENTION = tuple(
    f"transformer.{name}" for name in ("ring_joint_scaled_dot_product_attention", "scaled_dot_product_attention")
)


def first_block(program: Program, blocks: int) -> Program | None:
    """Return the instructions of a denoising step up to where its second block attends, without outputs.

    `blocks` are those of the model, which all attend as often. None for a program that does not attend.
    """
    attending = [index for index, one in enumerate(program.instructions) if one.op in _ATTENTION]
    in_a_block = len(attending) // blocks
    if in_a_block == 0:
        return None
    end = [*attending, len(program.instructions)][in_a_block]
    return replace(program, instructions=program.instructions[:end], outputs=[])
