"""Definitions of products, norms, rotary embedding and attention, float32 throughout."""

import math

import numpy as np

from mochi_aot.compiler.ir.numpy_values import quantised
from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Attr, Attrs


def number(value: Attr) -> np.float32:
    """Return an attribute that must be a number."""
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {value!r}")
    return np.float32(value)


def linear(attrs: Attrs, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Multiply x [..., in] by w [out, in] and add b [out]: [..., out]."""
    rows = x.reshape(-1, x.shape[-1])  # one large product is faster than many small ones
    y = np.matmul(rows, w.T).reshape(*x.shape[:-1], w.shape[0])
    return y if b is None else y + b


def linear_float8(
    attrs: Attrs, x: np.ndarray, w: np.ndarray, scales: np.ndarray, b: np.ndarray | None = None
) -> np.ndarray:
    """Multiply x [..., in], rows of which become float8, by w [out, in], float8 with scales [out] of rows, and add b
    [out]: [..., out]."""
    values, row_scales = quantised(x)
    y = linear({}, values, w) * row_scales[..., None] * scales
    return y if b is None else y + b


def matmul(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.matmul(a, b)


def softmax(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return _softmax(a, integer(attrs["dim"]))


def _softmax(a: np.ndarray, dim: int) -> np.ndarray:
    weights = np.exp(a - a.max(dim, keepdims=True))
    weights /= weights.sum(dim, keepdims=True)
    return weights


def rms_norm(attrs: Attrs, x: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Return x / sqrt(mean(x^2) + eps) over the last dimension, times `scale` (broadcast), arXiv:1910.07467."""
    mean = np.mean(np.square(x), -1, keepdims=True)
    y = x / np.sqrt(mean + number(attrs["eps"]))
    return y if scale is None else y * scale


def rope(attrs: Attrs, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotate pairs (2i, 2i + 1) of x [B, N, H, Dh] by angles given as cos, sin [N, H, Dh / 2], arXiv:2104.09864."""
    even, odd = x[..., 0::2], x[..., 1::2]
    rotated = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return rotated.reshape(x.shape)


def attention(attrs: Attrs, q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return softmax(scale * q k^T + bias) v of q, k, v [B, H, L, D]; causal: query i attends to keys 0..i."""
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * number(attrs["scale"])
    if bias is not None:
        scores = scores + bias
    if attrs["causal"]:
        visible = np.tril(np.ones(scores.shape[-2:], np.bool_))
        scores = np.where(visible, scores, np.float32(-math.inf))
    return np.matmul(_softmax(scores, -1), v)


def joint_attention(
    attrs: Attrs,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    q_text: np.ndarray,
    k_text: np.ndarray,
    v_text: np.ndarray,
    mask: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Attend from q [B, N, H, D] and q_text [B, L, H, D] to all of k [B, M, H, D] and to k_text where mask [B, L].

    M is N, except in the ring, where N is what one device holds.
    """
    visual = np.ones(k.shape[:2], np.bool_)
    visible = np.concatenate([visual, mask], 1)[:, None, None, :]
    bias = np.where(visible, np.float32(0), np.float32(-math.inf))
    queries, keys, values = (np.concatenate(pair, 1).swapaxes(1, 2) for pair in ((q, q_text), (k, k_text), (v, v_text)))
    out = attention({"scale": attrs["scale"], "causal": False}, queries, keys, values, bias).swapaxes(1, 2)
    return out[:, : q.shape[1]], out[:, q.shape[1] :]
