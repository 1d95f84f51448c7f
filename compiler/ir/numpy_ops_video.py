"""Definitions of the autoencoder's ops on [B, T, H, W, C]: causal convolution and group norm, whole or in parts."""

import numpy as np

from mochi_aot.compiler.ir.numpy_ops_nn import linear, number
from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Attrs


def causal_conv3d(attrs: Attrs, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Convolve x [B, T, H, W, I] with w [O, I, kt, kh, kw], b [O]; pad by repeating the border; one product per kernel
    position."""
    front, h_low, h_high, w_low, w_high = ints(attrs["padding"])
    x = np.pad(x, ((0, 0), (front, 0), (h_low, h_high), (w_low, w_high), (0, 0)), mode="edge")
    stride = ints(attrs["stride"])
    extent = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], w.shape[2:], stride, strict=True)]
    kernel = np.ascontiguousarray(np.moveaxis(w, (0, 1), (3, 4)))  # numpy has no fast product for strided matrices
    y = np.zeros((x.shape[0], *extent, w.shape[0]), np.float32)
    for position in np.ndindex(*w.shape[2:]):
        window = [slice(p, p + (n - 1) * s + 1, s) for p, n, s in zip(position, extent, stride, strict=True)]
        y += linear({}, x[(slice(None), *window)], kernel[position])
    return y if b is None else y + b


def group_norm(attrs: Attrs, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Normalise over H, W and the channels of a group, for each sample and frame; w, b [C]. arXiv:1803.08494."""
    groups = _grouped(x, integer(attrs["groups"]))
    centred = groups - groups.mean((2, 3, 5), keepdims=True)
    variance = np.mean(np.square(centred), (2, 3, 5), keepdims=True)
    return (centred / np.sqrt(variance + number(attrs["eps"]))).reshape(x.shape) * w + b


def statistics(x: np.ndarray, groups: int, valid: np.ndarray) -> np.ndarray:
    """Return (count, mean, sum of squared deviations from it) [1, 1, B, T, groups, 3] of each sample, frame and group.

    Only positions where valid (broadcastable to [B, T, H, W, groups, C / groups]) count; of none: all three are 0.
    """
    x = _grouped(x, groups)
    valid = np.broadcast_to(valid, x.shape)
    count = valid.sum((2, 3, 5), dtype=np.float32, keepdims=True)
    some = np.maximum(count, np.float32(1))
    mean = np.where(valid, x, np.float32(0)).sum((2, 3, 5), keepdims=True) / some
    squares = np.where(valid, np.square(x - mean), np.float32(0)).sum((2, 3, 5), keepdims=True)
    return np.concatenate([count, mean, squares], 5)[:, :, 0, 0][None, None]


def group_norm_apply(attrs: Attrs, x: np.ndarray, stats: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Combine the parts of stats [P0, P1, B, T, G, 3] (Chan, Golub and LeVeque 1979) and normalise x with them."""
    counts, means, squares = stats[..., 0], stats[..., 1], stats[..., 2]
    count = np.maximum(counts.sum((0, 1)), np.float32(1))
    mean = (counts * means).sum((0, 1)) / count
    variance = (squares + counts * np.square(means - mean)).sum((0, 1)) / count
    mean, variance = (part[:, :, None, None, :, None] for part in (mean, variance))
    normal = (_grouped(x, stats.shape[4]) - mean) / np.sqrt(variance + number(attrs["eps"]))
    return normal.reshape(x.shape) * w + b


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """Return [B, T, H, W, C] as [B, T, H, W, groups, C / groups]."""
    return x.reshape(*x.shape[:4], groups, -1)
