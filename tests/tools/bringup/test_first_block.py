"""The first block of a step: up to where the second attends."""

import pytest

from mochi_aot.artifacts.schema import Instruction, Program, ProgramStats
from mochi_aot.tools.bringup.first_block import first_block

RING = "transformer.ring_joint_scaled_dot_product_attention"
PLAIN = "transformer.scaled_dot_product_attention"


def step(ops: list[str]) -> Program:
    instructions = [Instruction(op, [0], [index + 1], {}, [], "dit.py:1") for index, op in enumerate(ops)]
    return Program("denoise", [1, 1], "whole", [], [], [], instructions, ProgramStats(0, 0, 0, {}))


@pytest.mark.parametrize(
    ("ops", "blocks", "kept"),
    [
        (["add", PLAIN, "silu", "add", PLAIN, "silu"], 2, 4),
        (["add", RING, RING, "silu", "add", RING, RING, "silu"], 2, 5),  # two rows of guidance
        (["add", RING, RING, "silu"], 1, 4),
    ],
    ids=["attention of one", "two rows", "one block"],
)
def test_what_is_kept(ops: list[str], blocks: int, kept: int) -> None:
    part = first_block(step(ops), blocks)
    assert part is not None and [one.op for one in part.instructions] == ops[:kept]
    assert part.outputs == []


def test_a_program_that_does_not_attend() -> None:
    assert first_block(step(["add", "silu"]), 1) is None
