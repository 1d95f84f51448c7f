"""Counting what is no number, and what chips make of such in a product."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.partition.plan import Cut, Plan
from tests.compiler.lower.ttnn.lowered import golden_outputs, lowered

SPACE = Plan("h0w1", values={"video": (Cut(0, 2), Cut(1, 3))}, cut_outputs=frozenset(("count",)))
SHAPE = (1, 2, 4, 6, 3)


def _count() -> Program:
    builder = Builder("count")
    video = builder.emit("annotate", [builder.input("x", TensorType(SHAPE, "bfloat16"), "latent")], {"name": "video"})
    builder.output("count", builder.emit("count_nonfinite", [video], {"valid": []}))
    return builder.program


def _counted(*numbers: float) -> torch.Tensor:
    """The count of each chip of 2x2 for a video of random numbers of which the first are replaced."""
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    x.reshape(-1)[: len(numbers)] = numbers
    (count,) = golden_outputs(lowered(_count(), (2, 2), SPACE), (2, 2), {"x": x}, {}).values()
    return count


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38, -9e37, 1e20])
def test_what_no_video_has_is_counted_where_it_is(number: float) -> None:
    """On a simulator of the chips a product with one NaN or infinity gave finite numbers of up to 9e37."""
    assert _counted(0.5, number, number).tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_what_a_video_may_have_is_not_counted() -> None:
    assert not _counted(0.0, -0.0, 1.0, -1.0, 100.0, -1e4, 1e-38).any()
