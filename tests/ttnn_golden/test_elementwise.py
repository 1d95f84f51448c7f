import pytest
import torch
from torch.nn import functional as F

from tests.ttnn_golden.chips import normal, on_one

X = normal(0, 4, 8)
Y = normal(1, 4, 1)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("silu", F.silu(X)),
        ("gelu", F.gelu(X)),
        ("tanh", X.tanh()),
        ("sin", X.sin()),
        ("cos", X.cos()),
        ("exp", X.exp()),
        ("rsqrt", X.rsqrt()),
        ("reciprocal", 1 / X),
        ("square", X * X),
        ("round", X.round()),
    ],
)
def test_unary(op, expected):
    torch.testing.assert_close(on_one(op, X), expected, equal_nan=True)


@pytest.mark.parametrize("number", [0.0, 3e38, float("nan"), float("inf"), float("-inf")])
def test_what_is_finite(number):
    assert on_one("isfinite", torch.full((2, 3), number)).tolist() == [3 * [float(abs(number) < 4e38)]] * 2


@pytest.mark.parametrize(
    ("op", "expected"),
    [("add", X + Y), ("subtract", X - Y), ("multiply", X * Y), ("divide", X / Y), ("eq", (X == Y).float())],
)
def test_binary_broadcasts(op, expected):
    torch.testing.assert_close(on_one(op, X, Y), expected)


def test_an_activation_follows():
    torch.testing.assert_close(on_one("multiply", X, Y, activations=["silu"]), F.silu(X * Y))


def test_addcmul():
    torch.testing.assert_close(on_one("addcmul", X, X, Y, value=2.0), X + 2 * X * Y)


def test_clamp():
    assert torch.equal(on_one("clamp", X, min=-0.5, max=0.25), X.clamp(-0.5, 0.25))
    assert torch.equal(on_one("clamp", X, min=-0.5, max=None), X.clamp(min=-0.5))
    assert torch.equal(on_one("clamp", X, min=None, max=0.25), X.clamp(max=0.25))


def test_where_takes_any_nonzero_condition():
    condition = torch.tensor([1.0, 0.0, 1.0]).bfloat16()
    x = torch.tensor([1.0, 2.0, 3.0])
    chosen = on_one("where", condition, x, value=-1.0)
    assert chosen.dtype == torch.float32 and chosen.tolist() == [1.0, -1.0, 3.0]


def test_typecast():
    x = torch.tensor([0.0, 2.9, 300.0])
    assert on_one("typecast", x, dtype="uint32").tolist() == [0, 2, 300]
    assert on_one("typecast", torch.tensor([0.0, 255.0]), dtype="uint8").tolist() == [0, 255]
    assert on_one("typecast", x, dtype="bfloat16").tolist() == x.bfloat16().tolist()
    assert on_one("typecast", torch.tensor([7]), dtype="float32").tolist() == [7.0]
    assert on_one("typecast", x, dtype="bfloat8_b").tolist() == [0.0, 4.0, 300.0]  # a unit of 4 beside 300
