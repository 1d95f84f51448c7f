"""float8 as the interpreter rounds to it, beside torch's own conversion, and what a product in it is off by."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.numpy_ops_nn import linear, linear_float8
from mochi_aot.compiler.ir.numpy_values import quantised, round_float8
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.verify import verify

# Half a step of 3 bits of fraction, of a number that is not below the least of full precision, 2^-6.
STEP, LEAST = 2.0**-4, 2.0**-6


def numbers_of_float8() -> np.ndarray:
    """All there are, NaN left out."""
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    return codes[np.isfinite(codes)]


def rows(seed: int, count: int, width: int) -> np.ndarray:
    """Numbers of very different sizes, in rows of very different ones too."""
    rng = np.random.default_rng(seed)
    sizes = np.exp2(rng.uniform(-12, 12, (count, 1)))
    return (rng.standard_normal((count, width)) * np.exp2(rng.uniform(-6, 0, (count, width))) * sizes).astype(
        np.float32
    )


def test_rounding_is_torch_s_on_every_bfloat16_number() -> None:
    """All bits of 16, and so all ties, which go to the even number; beyond 448 there is no more."""
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    expected = every.clamp(-448, 448).to(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(round_float8(every.numpy()), expected)


def test_float8_numbers_stay_as_they_are() -> None:
    every = numbers_of_float8()
    assert len(every) == 254 and every.max() == 448
    np.testing.assert_array_equal(round_float8(every), every)
    assert round_float8(np.float32([-0.0, 2.0**-10])).tolist() == [-0.0, 0.0]  # a tie between 0 and 2^-9
    assert np.isnan(round_float8(np.float32([np.nan]))).all()


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 40))
def test_quantised_rows_are_near(seed: int, count: int, width: int) -> None:
    """Within half a step of each number; of those below 2^-6 scales, which are at most 2^-13 of a row's largest, within
    that of 2^-6."""
    x = rows(seed, count, width)
    values, scales = quantised(x)
    assert values.shape == x.shape and scales.shape == (count,) and values.dtype == scales.dtype == np.float32
    np.testing.assert_array_equal(round_float8(values), values)
    assert (np.abs(values).max(-1) >= 224).all() and (np.log2(scales) % 1 == 0).all()
    assert (np.abs(values * scales[:, None] - x) <= STEP * np.maximum(np.abs(x), LEAST * scales[:, None])).all()
    np.testing.assert_array_less(LEAST * scales, 2.0**-13 * np.abs(x).max(-1))


@given(st.integers(0, 10_000), st.integers(-30, 30), st.integers(-40, 40))
def test_what_is_in_float8_stays_as_it_is(seed: int, scale: int, other: int) -> None:
    """With any power of two as its scale: a checkpoint in float8 loses nothing, nor does what was quantised once."""
    codes = np.random.default_rng(seed).choice(numbers_of_float8(), (2, 20))
    numbers = (codes * np.exp2([[scale], [other]])).astype(np.float32)
    values, scales = quantised(numbers)
    np.testing.assert_array_equal(values * scales[:, None], numbers)


def test_rows_of_nothing_and_of_no_numbers() -> None:
    values, scales = quantised(np.float32([[0, 0], [np.inf, 1], [np.nan, 1], [1e-44, 0], [2.9e38, 1]]))
    assert values[0].tolist() == [0, 0] and scales[0] == 2.0**-126
    assert np.isfinite(values[3:]).all() and scales[3] == 2.0**-126 and scales[4] == 2.0**119
    bad, one = np.float32([[np.inf, 1], [np.nan, 1], [1, -np.inf]]), np.ones(1, np.float32)
    assert np.isnan(linear_float8({}, bad, np.ones((1, 2), np.float32), one)).all()


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_a_product_is_off_by_its_operands_roundings(seed: int, width: int) -> None:
    """Each of the products that are added up is off by at most 2 * 2^-4 + 2^-8 of itself, with numbers below 2^-6 of a
    scale taken for as large; sums of 64 in float32 add no more than 2^-16 of that."""
    x, w = rows(seed, 3, width), rows(seed + 1, 4, width)
    bias = np.arange(4, dtype=np.float32)
    values, scales = quantised(w)
    exact = linear({}, x.astype(np.float64), w.astype(np.float64)) + bias
    x_least, w_least = (LEAST * quantised(a)[1][:, None] for a in (x, w))
    sizes = linear({}, np.maximum(np.abs(x), x_least).astype(np.float64), np.maximum(np.abs(w), w_least))
    bound = (2 * STEP + STEP**2 + 2.0**-16) * sizes + 2.0**-20 * np.abs(exact)
    assert (np.abs(linear_float8({}, x, values, scales, bias) - exact) <= bound).all()


TEXT = """program @p {
  input %x : bf16[5,32] rate=latent
  param %w : f8[16,32] = quantised("w", "values")
  param %s : f32[16] = quantised("w", "scales")
  %0 = linear_float8(%x, %w, %s) : bf16[5,16]
  return "y" %0
}
"""


def test_text_and_verifier() -> None:
    program = parse(TEXT)
    verify(program)
    assert to_text(program) == TEXT


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('f8[16,32] = quantised("w", "values")', 'bf16[16,32] = quantised("w", "values")', "is no bf16"),
        ('f32[16] = quantised("w", "scales")', 'f32[16,1] = quantised("w", "scales")', "is no f32"),
        ('"scales")', '"offsets")', "'offsets' of a quantised matrix is no f32"),
        ("bf16[5,32]", "bf16[5,64]", "input width 64"),
        ('f32[16] = quantised("w", "scales")', 'f32[8] = quantised("w", "scales")', "scales"),
        ('f8[16,32] = quantised("w", "values")', 'f32[16,32] = checkpoint("w")', "weight is float32"),
    ],
)
def test_what_the_verifier_refuses(old: str, new: str, problem: str) -> None:
    assert old in TEXT
    with pytest.raises(IRError, match=problem):
        verify(parse(TEXT.replace(old, new)))
