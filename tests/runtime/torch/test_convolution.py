"""Causal convolution against a sum over taps in float64.

A sum of n = 27 * 6 products of order 1 in float32 is off by less than n 2^-24 of its terms' sizes: 1e-4 is ample.
bfloat16 results are rounded to 2^-8 relative.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from mochi_aot.artifacts.schema import Placement
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.convolution import replicated
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from tests.runtime.torch.programs import kernel, normal, spec

WHOLE = [2, 1, 1, 1, 1]


def by_taps(x: Tensor, w: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]) -> Tensor:
    """Border positions are clamped indices; then one product for each of the kt x kh x kw taps."""
    front, top, bottom, left, right = padding
    for dim, (lo, hi) in enumerate([(front, 0), (top, bottom), (left, right)], start=1):
        indices = torch.arange(-lo, x.shape[dim] + hi).clamp(0, x.shape[dim] - 1)
        x = x.index_select(dim, indices)
    x, w = x.double(), w.double()
    extents = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], w.shape[2:], stride, strict=True)]
    total = torch.zeros(x.shape[0], *extents, w.shape[0], dtype=torch.float64)
    if bias is not None:
        total += bias.double()
    for t, h, v in product(*map(range, w.shape[2:])):
        window = [slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip((t, h, v), extents, stride, strict=True)]
        total += x[:, *window] @ w[:, :, t, h, v].T
    return total


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2.0**-7)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("stride", [[1, 1, 1], [2, 2, 2], [3, 2, 2], [1, 2, 2]])
@pytest.mark.parametrize("padding", [WHOLE, [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [2, 1, 0, 0, 1]])
def test_convolution(
    padding: list[int], stride: list[int], with_bias: bool, dtype: torch.dtype, tolerance: float
) -> None:
    x, w = normal(0, 2, 4, 5, 6, 6, dtype=dtype), normal(1, 7, 6, 3, 3, 3, dtype=dtype)
    bias = [normal(2, 7, dtype=dtype)] * with_bias
    y = kernel("causal_conv3d", x, w, *bias, stride=stride, padding=padding)
    assert y.dtype is dtype
    assert y.is_contiguous()
    expected = by_taps(x, w, bias[0] if bias else None, stride, padding)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance * float(expected.abs().max()) * 10)


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_a_single_frame_and_any_width(channels: int) -> None:
    x, w = normal(0, 1, 1, 3, 3, channels), normal(1, 2, channels, 3, 3, 3)
    y = kernel("causal_conv3d", x, w, stride=[1, 1, 1], padding=WHOLE)
    torch.testing.assert_close(y.double(), by_taps(x, w, None, [1, 1, 1], WHOLE), rtol=0, atol=1e-4)


def test_no_frame_sees_a_later_one() -> None:
    x, w = normal(0, 1, 4, 3, 3, 2), normal(1, 2, 2, 3, 3, 3)
    changed = x.clone()
    changed[:, 3] += 1
    first, second = (kernel("causal_conv3d", a, w, stride=[1, 1, 1], padding=WHOLE) for a in (x, changed))
    assert torch.equal(first[:, :3], second[:, :3])
    assert not torch.equal(first[:, 3], second[:, 3])


@pytest.mark.parametrize("mesh", [Mesh(1, 1), Mesh(1, 2), Mesh(2, 2), Mesh(2, 4)])
@pytest.mark.parametrize(("dim", "size"), [(1, 5), (2, 7), (3, 9)])
def test_with_a_halo_it_equals_the_whole(mesh: Mesh, dim: int, size: int) -> None:
    """Sharded along one dimension over the columns; the halo replaces that dimension's padding."""
    shape = [1, 4, 4, 4, 3]
    shape[dim] = size
    x, w, bias = normal(0, *shape), normal(1, 2, 3, 3, 3, 3), normal(2, 2)
    chunk = -(-size // mesh.columns)
    before, after = (2, 0) if dim == 1 else (1, 1)
    exchange = {"dim": dim, "axis": 1, "before": before, "after": after, "size": size, "chunk": chunk}
    value = COLLECTIVES["halo_exchange"](mesh, exchange)(split(x, spec(shape, columns=Placement(dim, chunk)), mesh))
    padding = list(WHOLE)
    padding[{1: slice(0, 1), 2: slice(1, 3), 3: slice(3, 5)}[dim]] = [0] * (1 if dim == 1 else 2)
    local = [kernel("causal_conv3d", part, w, bias, stride=[1, 1, 1], padding=padding) for part in value]
    y = assemble(local, spec([*shape[:4], 2], columns=Placement(dim, chunk)), mesh)
    expected = by_taps(x, w, bias, [1, 1, 1], WHOLE)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "padding", [(0, 0, 0, 0, 0), (2, 1, 1, 1, 1), (2, 0, 0, 0, 0), (0, 3, 1, 0, 2), (4, 0, 2, 1, 0)]
)
def test_borders_in_the_order_of_a_gpu(padding: tuple[int, ...]) -> None:
    """Border positions are clamped indices, in time, height and width."""
    x = normal(0, 2, 3, 4, 5, 6)
    expected, pairs = x, [(padding[0], 0), padding[1:3], padding[3:5]]
    for dim, (before, after) in enumerate(pairs, start=1):
        places = torch.arange(-before, x.shape[dim] + after).clamp(0, x.shape[dim] - 1)
        expected = expected.index_select(dim, places)
    made = replicated(x, pairs)
    assert made.is_contiguous() and torch.equal(made, expected)
