"""A norm's scale: the norm's weight where it is one vector, a product where it differs from row to row."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.partition.plan import Plan
from tests.compiler.lower.ttnn.lowered import golden_outputs, lowered

MESH, PLAN = (1, 2), Plan("whole")
TOKENS, WIDTH, EPS = 32, 64, 1e-6


def norm(rows: int, scale_dtype: str = "bfloat16", gated: bool = False) -> Program:
    """Of [rows, tokens, width] with a scale a row; `gated`: added to a residual."""
    builder = Builder("norm")
    x = builder.input("x", TensorType((rows, TOKENS, WIDTH), "bfloat16"), "latent")
    scale = builder.input("scale", TensorType((rows, 1, WIDTH), scale_dtype), "latent")
    y = builder.emit("rms_norm", [x, scale], {"eps": EPS})
    if gated:
        residual = builder.input("residual", TensorType((rows, TOKENS, WIDTH), "bfloat16"), "latent")
        y = builder.emit("add", [residual, y])
    builder.output("y", y)
    return builder.program


@pytest.mark.parametrize(
    ("program", "ops"),
    [
        (norm(1), [("rms_norm", 2)]),
        (norm(2), [("rms_norm", 1), ("multiply", 2)]),
        # ttnn wants a weight of the norm's dtype
        (norm(1, "float32"), [("rms_norm", 1), ("multiply", 2)]),
        (norm(1, gated=True), [("rms_norm", 1), ("addcmul", 3)]),
    ],
    ids=["one row", "two rows", "float32", "gate"],
)
def test_where_a_scale_goes(program: Program, ops: list[tuple[str, int]]) -> None:
    low = lowered(program, MESH, PLAN)
    assert [(i.op, len(i.operands)) for i in low.program.instructions] == ops


@pytest.mark.parametrize("rows", [1, 2])
def test_numbers(rows: int) -> None:
    """Of at most 3 roundings to bfloat16, of numbers below 8."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((rows, TOKENS, WIDTH))).bfloat16()
    scale = torch.from_numpy(rng.uniform(0.5, 1.5, (rows, 1, WIDTH))).bfloat16()
    arrays = {"x": x.float().numpy(), "scale": scale.float().numpy()}
    (y,) = golden_outputs(lowered(norm(rows), MESH, PLAN), MESH, arrays, {}).values()
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + EPS).sqrt() * scale.double()
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=3 * 8 * 2**-9)
