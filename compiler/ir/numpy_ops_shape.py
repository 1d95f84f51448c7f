"""Definitions of ops that move or reduce elements."""

import numpy as np

from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Attrs


def reshape(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return a.reshape(ints(attrs["shape"]))


def permute(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return a.transpose(ints(attrs["dims"]))


def slice(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Return elements [start, stop) of `dim`."""
    dim, start, stop = (integer(attrs[key]) for key in ("dim", "start", "stop"))
    return np.moveaxis(np.moveaxis(a, dim, 0)[start:stop], 0, dim)


def concat(attrs: Attrs, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, integer(attrs["dim"]))


def expand(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.broadcast_to(a, ints(attrs["shape"]))


def select(attrs: Attrs, table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return row `index[0]` of dimension `dim`, which is removed."""
    return table.take(index[0], axis=integer(attrs["dim"]))


def embedding(attrs: Attrs, weight: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Look up rows of weight [rows, width] by ids of any shape: [*ids.shape, width]."""
    return weight.take(ids, axis=0)


def sum(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.sum(a, tuple(ints(attrs["dims"])), dtype=a.dtype, keepdims=bool(attrs["keepdim"]))


def mean(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.mean(a, tuple(ints(attrs["dims"])), dtype=a.dtype, keepdims=bool(attrs["keepdim"]))
