"""How alike two videos are: PSNR and SSIM."""

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
WINDOW, SIGMA = 11, 1.5  # of SSIM; these and the constants: Wang, Bovik, Sheikh and Simoncelli, 2004
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def squared_error(frames: np.ndarray, expected: np.ndarray) -> float:
    """Mean squared difference of all samples of two uint8 arrays."""
    frame_errors = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(frames, expected, strict=True)]
    return float(np.mean(frame_errors))


def to_decibels(error: float) -> float | None:
    """PSNR in dB, on a scale of 255, of a mean squared difference; None if that is zero."""
    return float(10.0 * np.log10(255.0**2 / error)) if error > 0 else None


def mean_ssim(frames: np.ndarray, expected: np.ndarray) -> float:
    """Mean structural similarity of the brightness of frames, uint8 [F, H, W, 3], wherever the whole window fits."""
    values = [_ssim(a @ np.array(LUMA), b @ np.array(LUMA)) for a, b in zip(frames, expected, strict=True)]
    return float(np.mean(values))


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x, variance_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))))


def _blurred(picture: np.ndarray) -> np.ndarray:
    """Means under a Gaussian window: [H, W] -> [H - 10, W - 10]"""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(picture, WINDOW, axis=axis)
        picture = windows @ weights
    return picture
