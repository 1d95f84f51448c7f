"""Elementwise definitions against torch. One rounding of float32 is 6e-8; functions of libraries differ by a few."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.compiler.ir.one_op import apply, normal, tensors

TOLERANCE = 1e-6

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "round": torch.round,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
}


@pytest.mark.parametrize("opcode", UNARY)
def test_unary_equals_torch(opcode: str) -> None:
    x = 4 * normal(1, 3, 5, 7)
    (y,) = apply(opcode, {}, x)
    np.testing.assert_allclose(y, UNARY[opcode](torch.from_numpy(x)), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("opcode", UNARY)
def test_unary_in_bfloat16_is_rounded(opcode: str) -> None:
    x = torch.from_numpy(4 * normal(1, 64)).bfloat16()
    (y,) = apply(opcode, {}, x.float().numpy(), dtype="bfloat16")
    # A number between two of bfloat16 may fall either way: one part in 2^7. gelu cancels below -4: 1e-5 absolute.
    np.testing.assert_allclose(y, UNARY[opcode](x).float(), rtol=2**-7, atol=1e-5)
    assert torch.equal(torch.from_numpy(y).bfloat16().float(), torch.from_numpy(y))


@pytest.mark.parametrize("opcode", BINARY)
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), ())])
def test_binary_broadcasts_as_torch(opcode: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = normal(1, *shapes[0]), normal(2, *shapes[1])
    (y,) = apply(opcode, {}, a, b)
    np.testing.assert_allclose(y, BINARY[opcode](*tensors(a, b)), rtol=TOLERANCE)
    assert y.dtype == np.float32


@pytest.mark.parametrize("opcode", ["add", "sub", "mul"])
def test_integers_stay_integers(opcode: str) -> None:
    (y,) = apply(opcode, {}, np.array([7, -2], np.int32), np.array([3, 3], np.int32))
    assert y.dtype == np.int32


@pytest.mark.parametrize("shape", [(4,), ()])
def test_scalars_keep_float32(shape: tuple[int, ...]) -> None:
    x = normal(1, *shape)
    (scaled,), (moved,) = apply("mul_scalar", {"value": 0.1}, x), apply("add_scalar", {"value": 0.1}, x)
    assert scaled.dtype == moved.dtype == np.float32
    np.testing.assert_array_equal(scaled, x * np.float32(0.1))
    np.testing.assert_array_equal(moved, x + np.float32(0.1))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1.0, 1.0, [-1.0, 0.5, 1.0]), (None, 1.0, [-2.0, 0.5, 1.0]), (-1.0, None, [-1.0, 0.5, 2.0])],
)
def test_clamp_has_optional_bounds(low: float | None, high: float | None, expected: list[float]) -> None:
    (y,) = apply("clamp", {"min": low, "max": high}, np.array([-2.0, 0.5, 2.0], np.float32))
    assert y.tolist() == expected


def test_where_scalar_keeps_where_true() -> None:
    condition = np.array([[True], [False]])
    (y,) = apply("where_scalar", {"value": -9.0}, condition, np.array([1.0, 2.0], np.float32))
    assert y.tolist() == [[1.0, 2.0], [-9.0, -9.0]]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", [0, 2, 254]),
        ("int32", [0, 2, 254]),
        ("bool", [True, True, True]),
        ("float32", [0.75, 2.5, 254.875]),
        ("bfloat16", [0.75, 2.5, 255.0]),
    ],
)
def test_cast(dtype: str, expected: list[float]) -> None:
    (y,) = apply("cast", {"dtype": dtype}, np.array([0.75, 2.5, 254.875], np.float32))
    assert y.tolist() == expected


def test_annotate_is_the_identity() -> None:
    x = np.arange(3, dtype=np.int32)
    np.testing.assert_array_equal(apply("annotate", {"name": "here"}, x)[0], x)
