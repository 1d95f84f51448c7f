"""The lines of a table that a step reads: all of a batch, each row by itself, or each chip its own."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.partition.plan import Cut, Plan
from tests.compiler.lower.ttnn.lowered import golden_outputs, lowered

MESH, WHOLE, CUT = (2, 1), Plan("whole"), Plan("cut", values={"row": (Cut(0, 0),)})
STEPS, BATCH, WIDTH, STEP = 5, 2, 64, 3


def reading(use: str) -> Program:
    """Of a table [steps, batch, 1, width] and the step: what is read of it, as `use` says."""
    builder = Builder("denoise")  # the role whose inputs are tables
    table = builder.input("table", TensorType((STEPS, BATCH, 1, WIDTH), "bfloat16"), "step")
    step = builder.input("step", TensorType((1,), "int32"), "latent")
    row = builder.emit("select", [table, step], {"dim": 0})
    if use == "rows":
        for n in range(BATCH):
            piece = builder.emit("slice", [row], {"dim": 0, "start": n, "stop": n + 1})
            builder.output(f"row {n}", builder.emit("silu", [piece]))
        return builder.program
    builder.output("rows", builder.emit("silu", [builder.emit("annotate", [row], {"name": "row"})]))
    return builder.program


@pytest.mark.parametrize(
    ("use", "plan", "lookups", "taking_apart"),
    [("batch", WHOLE, 1, []), ("rows", WHOLE, BATCH, ["slice"] * BATCH), ("batch", CUT, 1, ["mesh_partition"])],
    ids=["batch", "rows", "a row on each chip"],
)
def test_what_is_looked_up(use: str, plan: Plan, lookups: int, taking_apart: list[str]) -> None:
    """What is cut apart is the lines' numbers, once for all tables, and not what was looked up."""
    low = lowered(reading(use), MESH, plan)
    ops = [i.op for i in low.program.instructions]
    assert ops.count("embedding") == lookups
    assert [op for op in ops if op in ("slice", "mesh_partition", "reshape")] == ["reshape", *taking_apart]
    for one in low.program.instructions:
        if one.op in taking_apart:
            assert [low.tensors[value].shape for value in one.results] == [(1, 1)]


@pytest.mark.parametrize(("use", "plan"), [("batch", WHOLE), ("rows", WHOLE), ("batch", CUT)])
def test_numbers(use: str, plan: Plan) -> None:
    """Of one rounding to bfloat16, of numbers below 4."""
    table = torch.randn(STEPS, BATCH, 1, WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    low = lowered(reading(use), MESH, plan)
    held = table.float().numpy().reshape(STEPS * BATCH, WIDTH)
    made = golden_outputs(low, MESH, {"table": held, "step": np.array([STEP], np.int32)}, {})
    expected = torch.nn.functional.silu(table[STEP].double())
    torch.testing.assert_close(torch.cat(list(made.values())).double(), expected, rtol=0, atol=4 * 2**-9)
