"""Products in float8 by torch: beside the definition, and beside torch's own product with scales of rows."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mochi_aot.compiler.ir.numpy_ops_nn import linear_float8
from mochi_aot.compiler.ir.numpy_values import quantised as quantised_in_numpy
from mochi_aot.runtime.torch import float8
from mochi_aot.runtime.torch.finite import nonfinite_kinds
from mochi_aot.runtime.torch.float8 import FLOAT8, float8_product, quantised
from tests.runtime.torch.programs import kernel, normal

ROWS, WIDTH, OUTPUTS = (2, 5), 96, 48


@pytest.fixture
def operands() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [2, 5, 96] bfloat16, w [48, 96] in float8 with its scales [48], and b [48] bfloat16."""
    x = normal(0, *ROWS, WIDTH, dtype=torch.bfloat16) * torch.logspace(-3, 3, 5)[:, None].bfloat16()
    values, scales = quantised(normal(1, OUTPUTS, WIDTH) / 9)
    return x, values, scales[:, 0], normal(2, OUTPUTS, dtype=torch.bfloat16)


def defined(x: Tensor, w: Tensor, scales: Tensor, b: Tensor | None) -> Tensor:
    bias = None if b is None else b.float().numpy()
    return torch.from_numpy(linear_float8({}, x.float().numpy(), w.float().numpy(), scales.numpy(), bias))


def test_quantised_is_the_definition_bit_by_bit() -> None:
    """Of numbers of all sizes that float32 has, zeros, infinities and NaN."""
    rows = normal(3, 40, 33) * torch.logspace(-43, 38, 40, dtype=torch.float64)[:, None]
    rows = rows.float().clamp(-3e38, 3e38)
    rows[1] = 0
    rows[2, 3], rows[3, 4] = torch.inf, torch.nan
    values, scales = quantised(rows)
    expected, expected_scales = quantised_in_numpy(rows.numpy())
    assert values.dtype is FLOAT8
    np.testing.assert_array_equal(values.float().numpy(), expected)
    np.testing.assert_array_equal(scales[:, 0].numpy(), expected_scales)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(4, 7, 16, dtype=torch.bfloat16)
    whole, scales = quantised(rows)
    monkeypatch.setattr(float8, "_BLOCK_ELEMENTS", 33)  # two rows, and one that is left
    values, others = quantised(rows)
    assert torch.equal(values.view(torch.uint8), whole.view(torch.uint8)) and torch.equal(others, scales)


@pytest.mark.parametrize("biased", [False, True])
def test_linear_is_the_definition(operands: tuple[Tensor, ...], biased: bool) -> None:
    """Sums of 96 float32 numbers in another order, 96 * 2^-24 of the largest; rounded to bfloat16, 2^-8 of each."""
    x, w, scales, b = operands
    given = (w, scales, b) if biased else (w, scales)
    y = kernel("linear_float8", x, *given)
    expected = defined(x, w, scales, b if biased else None)
    assert y.dtype is torch.bfloat16 and y.shape == (*ROWS, OUTPUTS)
    largest = expected.abs().amax(-1, keepdim=True)
    assert bool(((y.float() - expected).abs() <= 2.0**-8 * expected.abs() + 96 * 2.0**-24 * largest).all())


@pytest.mark.parametrize("biased", [False, True])
def test_what_a_gpu_is_asked_is_the_same(operands: tuple[Tensor, ...], biased: bool) -> None:
    """torch makes the product on CPUs too: the layouts and scales that it is given mean what they are meant to.

    A rounding to bfloat16 more or less than in the definition, where sums are in another order.
    """
    x, w, scales, b = operands
    bias = b if biased else None
    values, row_scales = quantised(x.reshape(-1, WIDTH))
    theirs = float8._scaled_mm(values, row_scales, w, scales, bias).float()
    ours = float8_product(values, row_scales, w, scales, bias, torch.bfloat16).float()
    largest = ours.abs().amax(-1, keepdim=True)
    # With a bias torch rounds to bfloat16 before adding it: off by half a step of either.
    steps = 2 if biased else 1
    assert bool(((theirs - ours).abs() <= steps * (2.0**-8 * largest)).all())
    assert float((theirs != ours).float().mean()) <= (0.5 if biased else 0.01)


@pytest.mark.parametrize("biased", [False, True])
def test_rows_are_multiplied_in_blocks(
    operands: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch, biased: bool
) -> None:
    """Three of ten at a time, and one that is left: a row's sums may be in another order, and no more."""
    x, w, scales, b = operands
    given = (*quantised(x.reshape(-1, WIDTH)), w, scales, b if biased else None, torch.float32)
    whole = float8_product(*given)
    monkeypatch.setattr(float8, "_BLOCK_ELEMENTS", 3 * WIDTH + 5)
    largest = whole.abs().amax(-1, keepdim=True)
    assert bool(((float8_product(*given) - whole).abs() <= WIDTH * 2.0**-24 * largest).all())


def test_older_gpus_multiply_the_same_numbers() -> None:
    """bfloat16 holds them all."""
    every = torch.arange(256, dtype=torch.uint8).view(FLOAT8)
    torch.testing.assert_close(every.bfloat16().float(), every.float(), rtol=0, atol=0, equal_nan=True)


def test_a_device_that_refuses_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*operands: object, **options: object) -> Tensor:
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0\nmore")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    float8.has_float8.cache_clear()
    with pytest.warns(
        UserWarning, match=r"made in bfloat16, which is slower: torch\._scaled_mm is only supported .* 9\.0$"
    ):
        assert not float8.has_float8(torch.device("cpu"))
    assert not float8.has_float8(torch.device("cpu"))
    monkeypatch.undo()
    float8.has_float8.cache_clear()
    assert float8.has_float8(torch.device("cpu"))  # torch's product is there for CPUs too
    float8.has_float8.cache_clear()


def test_what_is_not_finite_is_seen(operands: tuple[Tensor, ...]) -> None:
    x, w, scales, _ = operands
    broken = x.clone()
    broken[0, 1, 3], broken[1, 2, 5] = torch.inf, torch.nan
    nan = torch.isnan(kernel("linear_float8", broken, w, scales)).all(-1)
    assert nan.nonzero().tolist() == [[0, 1], [1, 2]]
    assert nonfinite_kinds([w]) == []
    w = w.clone()
    w.view(torch.uint8)[1, 1] = 0x7F  # NaN, of which float8 has no other code but its negative
    assert nonfinite_kinds([w]) == ["NaN"]
    assert torch.isnan(kernel("linear_float8", x, w, scales))[..., 1].all()
