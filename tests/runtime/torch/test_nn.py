"""Products, reductions, RMS norm and rotary embedding against their definitions in float64.

Sums of n <= 64 float32 terms of order 1 are off by at most n 2^-24 times the sum of the terms' sizes: 2e-4 would be
the worst case, 1e-5 is never seen exceeded. bfloat16 results are rounded once, to 2^-8 relative.
"""

import pytest
import torch
from torch import Tensor

from tests.runtime.torch.programs import kernel, normal

DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-7)]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest expected number: sums may cancel."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_linear(dtype: torch.dtype, tolerance: float) -> None:
    x, w, b = normal(0, 2, 5, 64, dtype=dtype), normal(1, 7, 64, dtype=dtype), normal(2, 7, dtype=dtype)
    expected = torch.einsum("bni,oi->bno", x.double(), w.double())
    y = kernel("linear", x, w)
    assert y.dtype is dtype
    close(y, expected, tolerance)
    close(kernel("linear", x, w, b), expected + b.double(), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_matmul_broadcasts_batches(dtype: torch.dtype, tolerance: float) -> None:
    a, b = normal(0, 2, 1, 3, 64, dtype=dtype), normal(1, 4, 64, 5, dtype=dtype)
    y = kernel("matmul", a, b)
    assert y.dtype is dtype
    close(y, torch.einsum("bxij,hjk->bhik", a.double(), b.double()), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(("dims", "keepdim"), [([1], True), ([0, 2], False), ([2], False)])
def test_sum_and_mean(dtype: torch.dtype, tolerance: float, dims: list[int], keepdim: bool) -> None:
    x = normal(0, 4, 5, 6, dtype=dtype)
    total = x.double().sum(dims, keepdim)
    y = kernel("sum", x, dims=dims, keepdim=keepdim)
    assert y.dtype is dtype
    close(y, total, tolerance)
    close(kernel("mean", x, dims=dims, keepdim=keepdim), total * total.numel() / x.numel(), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_softmax(dtype: torch.dtype, tolerance: float) -> None:
    x = normal(0, 3, 4, 5, dtype=dtype)
    weights = torch.exp(x.double())
    y = kernel("softmax", x, dim=1)
    assert y.dtype is dtype
    close(y, weights / weights.sum(1, keepdim=True), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("scale_shape", [None, (64,), (2, 1, 64), (3, 64)])
def test_rms_norm(dtype: torch.dtype, tolerance: float, scale_shape: tuple[int, ...] | None) -> None:
    x = normal(0, 2, 3, 64, dtype=dtype) * 4
    wide = x.double()
    expected = wide / torch.sqrt((wide**2).sum(-1, keepdim=True) / 64 + 1e-2)
    operands = [x]
    if scale_shape is not None:
        operands.append(normal(1, *scale_shape, dtype=dtype))
        expected = expected * operands[1].double()
    kept = [operand.clone() for operand in operands]
    y = kernel("rms_norm", *operands, eps=1e-2)
    assert y.dtype is dtype
    close(y, expected, tolerance)
    assert all(torch.equal(a, b) for a, b in zip(operands, kept, strict=True))


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_rms_norm_of_zeros_is_zero(eps: float) -> None:
    assert not kernel("rms_norm", torch.zeros(2, 8), eps=eps).any()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pair by pair, the rotation matrix (cos -sin; sin cos)."""
    y = torch.empty(x.shape, dtype=torch.float64)
    for i in range(x.shape[-1] // 2):
        a, b = x[..., 2 * i].double(), x[..., 2 * i + 1].double()
        c, s = cos[..., i].double(), sin[..., i].double()
        y[..., 2 * i], y[..., 2 * i + 1] = a * c - b * s, a * s + b * c
    return y


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_rope(dtype: torch.dtype, tolerance: float) -> None:
    x, angle = normal(0, 2, 5, 3, 8, dtype=dtype), normal(1, 5, 3, 4)
    y = kernel("rope", x, angle.cos(), angle.sin())
    assert y.dtype is dtype
    close(y, rotated(x, angle.cos(), angle.sin()), tolerance)


@pytest.mark.parametrize("start", [1, 2, 8])
def test_rope_of_a_view(start: int) -> None:
    """Whatever the strides and the offset: heads that are a slice of a wider product."""
    x, angle = normal(0, 2, 5, 3, 27)[..., start : start + 8], normal(1, 5, 3, 4)
    close(kernel("rope", x, angle.cos(), angle.sin()), rotated(x, angle.cos(), angle.sin()), 1e-6)
