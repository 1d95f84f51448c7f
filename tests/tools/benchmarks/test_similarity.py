"""PSNR and SSIM against values that follow from their definitions."""

import math

import numpy as np
import pytest

from mochi_aot.tools.benchmarks.similarity import C1, C2, mean_ssim, squared_error, to_decibels


def flat(value: int) -> np.ndarray:
    return np.full((2, 16, 20, 3), value, np.uint8)


def test_psnr_of_frames_that_differ_by_so_many_levels() -> None:
    assert squared_error(flat(200), flat(205)) == squared_error(flat(205), flat(200)) == 25.0
    assert to_decibels(25.0) == pytest.approx(20 * math.log10(255 / 5))
    assert to_decibels(squared_error(flat(7), flat(7))) is None


def test_videos_of_other_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="longer"):
        squared_error(flat(0)[:1], flat(0))


def test_ssim_of_flat_frames_is_what_is_left_of_its_formula() -> None:
    """Without any variance the second factor is one."""
    assert mean_ssim(flat(100), flat(140)) == pytest.approx((2 * 100 * 140 + C1) / (100**2 + 140**2 + C1))


def test_ssim_of_a_shift_in_brightness_and_of_a_negative() -> None:
    """Variances and covariance are the frame's own, or their opposite; the window's means are those of each pixel."""
    noise = np.random.default_rng(0).integers(0, 2, (1, 40, 40, 1)) * 100 + np.zeros(3, np.int64)
    dark, light = noise.astype(np.uint8), (noise + 50).astype(np.uint8)
    assert mean_ssim(dark, dark) == pytest.approx(1.0)
    assert 0.7 < mean_ssim(dark, light) < 1.0
    # Means of about 50 in both, variances of about 2500 less what the window leaves, and their negative.
    assert -1.0 <= mean_ssim(dark, (100 - noise).astype(np.uint8)) < -0.8


def test_ssim_against_a_window_summed_by_hand() -> None:
    """One window of 11 x 11 pixels: the definition, written out."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 1, 11, 11, 1)).repeat(3, axis=-1).astype(np.uint8)
    distance = np.arange(11) - 5
    weights = np.exp(-(distance[:, None] ** 2 + distance[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    a, b = x[0, :, :, 0].astype(float), y[0, :, :, 0].astype(float)
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    expected /= (mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2)
    assert mean_ssim(x, y) == pytest.approx(expected)
