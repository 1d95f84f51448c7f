"""Counting and naming numbers that are not finite, against numpy; padding does not count."""

import numpy as np
import pytest
import torch

from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.positional import POSITIONAL
from tests.runtime.torch.programs import normal

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_device_counts_what_it_holds(dtype: torch.dtype) -> None:
    """A height of five over two devices in pieces of three: the sixth row is padding, and holds nothing that counts."""
    x = normal(0, 1, 2, 6, 4, 3).to(dtype)
    x[0, 1, 0, 2, 1], x[0, 0, 4, 1, 2], x[0, 1, 3, 3, 0] = NAN, INF, -INF
    x[0, :, 5] = NAN
    pieces = [x[:, :, :3].contiguous(), x[:, :, 3:].contiguous()]
    count = POSITIONAL["count_nonfinite"](Mesh(2, 1), {"valid": [[2, 0, 3, 5]]})
    assert [c.tolist() for c in count(pieces)] == [[[1.0]], [[2.0]]]
    before = [torch.tensor([[40.0]]), torch.tensor([[0.0]])]
    assert [c.tolist() for c in count(pieces, before)] == [[[41.0]], [[2.0]]]
    assert {c.dtype for c in count(pieces)} == {torch.float32}


def test_a_device_that_holds_padding_alone_counts_nothing() -> None:
    pieces = [normal(0, 1, 1, 2, 2, 3), torch.full((1, 1, 2, 2, 3), NAN)]
    count = POSITIONAL["count_nonfinite"](Mesh(2, 1), {"valid": [[2, 0, 2, 2]]})
    assert [c.tolist() for c in count(pieces)] == [[[0.0]], [[0.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("numbers", [[], [NAN], [INF], [-INF], [INF, -INF], [NAN, -INF], [NAN, INF, -INF]])
def test_which_there_are(numbers: list[float], dtype: torch.dtype) -> None:
    x = normal(1, 5, 7).to(dtype)
    for place, number in enumerate(numbers):
        x[place, 6] = number
    expected = [
        name for name, number in {"NaN": NAN, "inf": INF, "-inf": -INF}.items() if str(number) in map(str, numbers)
    ]
    assert TorchBackend(1, 2).nonfinite([normal(2, 5, 7).to(dtype), x]) == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_whole_numbers_are_finite(dtype: torch.dtype) -> None:
    assert TorchBackend(1, 1).nonfinite([torch.ones(3, dtype=dtype)]) == []


def test_the_largest_numbers_are_finite() -> None:
    """Their sum would not be."""
    largest = np.finfo(np.float32).max
    assert TorchBackend(1, 1).nonfinite([torch.full((1000,), float(largest))]) == []
    assert TorchBackend(1, 1).nonfinite([torch.empty(0)]) == []
