"""Elementwise ops against their formulas in float64.

float32 results of order 1 to 10 carry a relative rounding error of a few 2^-24: 1e-6. bfloat16 rounds to 2^-8.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.runtime.torch.programs import kernel, normal

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: 1 - 2 / (torch.exp(2 * x) + 1),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "sin": lambda x: (torch.exp(1j * x)).imag,
    "cos": lambda x: (torch.exp(1j * x)).real,
    "exp": lambda x: math.e**x,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}
DTYPES = [(torch.float32, 1e-6), (torch.bfloat16, 2.0**-8)]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str, dtype: torch.dtype, tolerance: float) -> None:
    x = normal(0, 4, 50, dtype=dtype)
    y = kernel(op, x)
    assert y.dtype is dtype
    close(y, UNARY[op](x.double()), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("op", BINARY)
def test_binary_broadcasts(op: str, dtype: torch.dtype, tolerance: float) -> None:
    a, b = normal(0, 2, 1, 5, dtype=dtype), normal(1, 3, 1, dtype=dtype)
    y = kernel(op, a, b)
    assert y.dtype is dtype
    assert y.shape == (2, 3, 5)
    close(y, BINARY[op](a.double(), b.double()), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_scalars_keep_the_dtype(dtype: torch.dtype, tolerance: float) -> None:
    x = normal(0, 20, dtype=dtype)
    for op, expected in (("add_scalar", x.double() + 0.3), ("mul_scalar", x.double() * 0.3)):
        y = kernel(op, x, value=0.3)
        assert y.dtype is dtype
        close(y, expected, tolerance)


def test_round_goes_to_the_even_neighbour() -> None:
    assert kernel("round", torch.tensor([0.5, 1.5, 2.5, -0.5, 2.4])).tolist() == [0, 2, 2, 0, 2]


def test_clamp_may_be_open_on_a_side() -> None:
    x = torch.tensor([-3.0, 0.5, 3.0])
    assert kernel("clamp", x, min=-1.0, max=1.0).tolist() == [-1, 0.5, 1]
    assert kernel("clamp", x, min=None, max=1.0).tolist() == [-3, 0.5, 1]
    assert kernel("clamp", x, min=-1.0, max=None).tolist() == [-1, 0.5, 3]


def test_cast_to_uint8_truncates() -> None:
    x = kernel("cast", torch.tensor([0.0, 0.9, 254.99, 255.0]), dtype="uint8")
    assert x.dtype is torch.uint8
    assert x.tolist() == [0, 0, 254, 255]


def test_cast_to_bfloat16_rounds_to_nearest() -> None:
    assert kernel("cast", torch.tensor([1 + 2.0**-8 + 2.0**-16]), dtype="bfloat16").tolist() == [1 + 2.0**-7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_where_scalar(dtype: torch.dtype) -> None:
    x = torch.tensor([[1, 2], [3, 4]], dtype=dtype)
    y = kernel("where_scalar", torch.tensor([True, False]), x, value=0 if dtype is torch.int32 else 0.0)
    assert y.dtype is dtype
    assert y.tolist() == [[1, 0], [3, 0]]
