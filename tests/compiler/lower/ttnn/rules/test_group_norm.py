"""Group norm in small ops: its numbers, far from zero too, and cuts that it refuses."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Checkpoint, Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.lower.ttnn.lowerer import LoweringError
from mochi_aot.compiler.lower.ttnn.rules.group_norm import group_average
from mochi_aot.compiler.partition.plan import Cut, Plan
from tests.compiler.lower.ttnn.lowered import golden_outputs, lowered

CHANNELS, GROUPS = 64, 8
SPACE = Plan("h0w1", values={"video": (Cut(0, 2), Cut(1, 3))}, cut_outputs=frozenset(("y",)))
EPS = 1e-5


def _norm(shape: tuple[int, ...], then_silu: bool) -> Program:
    builder = Builder("norm")
    x = builder.input("x", TensorType(shape, "bfloat16"), "latent")
    weight, bias = (builder.param(n, TensorType((CHANNELS,), "bfloat16"), Checkpoint(n)) for n in ("w", "b"))
    video = builder.emit("annotate", [x], {"name": "video"})
    y = builder.emit("group_norm", [video, weight, bias], {"groups": GROUPS, "eps": EPS})
    builder.output("y", builder.emit("silu", [y]) if then_silu else y)
    return builder.program


def _expected(x: np.ndarray, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Frame by frame, in float64."""
    frames = torch.from_numpy(x)[0].permute(0, 3, 1, 2).double()
    normed = torch.nn.functional.group_norm(frames, GROUPS, weight.double(), bias.double(), EPS)
    return normed.permute(0, 2, 3, 1)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("mean", [0.0, 3.0])
@pytest.mark.parametrize("then_silu", [False, True])
def test_numbers(mesh: tuple[int, int], mean: float, then_silu: bool) -> None:
    """A mean of three deviations, which differs from frame to frame, costs no accuracy.

    What is in bfloat16 is rounded by 2^-9 of its size at most: the statistics, hence the shift by 2^-9 of the mean in
    deviations, once for the mean and once for the reduction; x + shift, and the result, whose sizes are below 6.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 4, 6, CHANNELS)) + mean * np.arange(3).reshape(3, 1, 1, 1)
    x = torch.from_numpy(x).bfloat16().float().numpy()
    weight, bias = (torch.from_numpy(rng.uniform(0.5, 1.5, CHANNELS)).bfloat16().float() for _ in range(2))
    expected = _expected(x, weight, bias)
    low = lowered(_norm(x.shape, then_silu), mesh, SPACE)
    (y,) = golden_outputs(low, mesh, {"x": x}, {"w": weight, "b": bias}).values()
    tolerance = 2**-9 * (2 * 2 * mean + 3 * 6) * 1.5
    torch.testing.assert_close(
        y.double()[0], torch.nn.functional.silu(expected) if then_silu else expected, rtol=0, atol=tolerance
    )


def test_silu_is_part_of_it() -> None:
    ops = [i.op for i in lowered(_norm((1, 2, 4, 4, CHANNELS), True), (2, 2), SPACE).program.instructions]
    assert "silu" not in ops and ops.count("all_gather") == 2


def test_a_channel_that_is_scaled_by_zero_is_its_bias() -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 2, 2, CHANNELS)).astype(np.float32)
    weight, bias = torch.zeros(CHANNELS), torch.linspace(-2, 2, CHANNELS)
    low = lowered(_norm(x.shape, False), (1, 1), SPACE)
    (y,) = golden_outputs(low, (1, 1), {"x": x}, {"w": weight, "b": bias}).values()
    torch.testing.assert_close(y[0, 0].float(), bias.expand(2, 2, CHANNELS), rtol=2**-7, atol=1e-4)


def test_pieces_that_do_not_divide() -> None:
    with pytest.raises(LoweringError, match="pieces of 2 do not divide dimension 2, 3 long; choose another plan"):
        lowered(_norm((1, 1, 3, 4, CHANNELS), False), (2, 1), SPACE)


def test_group_average() -> None:
    row = np.arange(6, dtype=np.float32)
    assert (row @ group_average(6, 3)).tolist() == [0.5, 0.5, 2.5, 2.5, 4.5, 4.5]
