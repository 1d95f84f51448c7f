"""Weights that are cut at rest and gathered at use compute what whole ones do."""

import numpy as np
import pytest

from mochi_aot.compiler.compile import compile_program
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.types import REPLICATE, Shard
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.gathered import gather_at_use
from mochi_aot.compiler.partition.plan import Cut, Plan
from mochi_aot.compiler.partition.plans import TRANSFORMER_PLANS
from tests.compiler.tiny import programs

TEXT = """program @p mesh=2x1 {
  input %x : f32[3,8]{R,R} rate=latent
  param %w : f32[4,8]{R,R} = checkpoint("big.weight")
  param %v : f32[5,4]{R,R} = checkpoint("small.weight")
  %0 = linear(%x, %w) : f32[3,4]{R,R}
  %1 = linear(%0, %v) : f32[3,5]{R,R}
  %2 = linear(%x, %w) : f32[3,4]{R,R}
  return "y" %1
  return "z" %2
}
"""


def gathered(multiple: int = 1, pattern: str = "big.*", axis: int = 0) -> Program:
    made = gather_at_use(parse(TEXT), Plan("p", gathered=((pattern, Cut(axis, 1, multiple)),)))
    verify(made)
    return made


def test_a_named_weight_is_cut_and_gathered_before_each_use() -> None:
    made = gathered()
    kept = {param.value.name: param.value.type.placements for param in made.params}
    assert kept == {"w": (Shard(1, 4), REPLICATE), "v": (REPLICATE, REPLICATE)}
    assert [op.opcode for op in made.ops] == ["all_gather", "linear", "linear", "all_gather", "linear"]


@pytest.mark.parametrize(
    ("multiple", "pattern", "axis"),
    [(8, "big.*", 0), (1, "none", 0), (1, "big.*", 1)],
    ids=["pieces of 4 are no multiple of 8", "no such weight", "an axis of one device"],
)
def test_others_stay_whole(multiple: int, pattern: str, axis: int) -> None:
    assert [op.opcode for op in gathered(multiple, pattern, axis).ops] == ["linear"] * 3


def test_a_joined_weight_is_cut_as_its_parts() -> None:
    """Gate and up of each block's MLPs are one weight, which verify() compares with its parts."""
    made = compile_program(programs()["denoise"], (2, 1), TRANSFORMER_PLANS["gp0sp1fs0"]).program
    gathers = [op for op in made.ops if op.loc == "gathered weight"]
    assert {op.operands[0] for op in gathers} <= {param.value for param in made.params}
    whole = compile_program(programs()["denoise"], (2, 1), TRANSFORMER_PLANS["gp0sp1"]).program
    halves = sum(op.operands[0].type.local_nbytes for op in gathers)
    size = {program: sum(p.value.type.local_nbytes for p in program.params) for program in (made, whole)}
    assert halves > 0
    assert size[whole] - size[made] == halves
    assert np.isfinite(halves)
