"""Definitions of elementwise ops. Arrays of bfloat16 values come as float32; the interpreter rounds the results."""

import math

import numpy as np

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.ir.program import Attr, Attrs


def _scalar(value: Attr, like: np.ndarray) -> np.generic:
    """Return an attribute as a scalar of the operand's dtype, so that float32 stays float32."""
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {value!r}")
    return like.dtype.type(value)


def add(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.add(a, b)


def sub(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.subtract(a, b)


def mul(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.multiply(a, b)


def div(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Divide numbers of floating point."""
    return np.divide(a, b)


def add_scalar(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.add(a, _scalar(attrs["value"], a))


def mul_scalar(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.multiply(a, _scalar(attrs["value"], a))


def silu(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Return a / (1 + exp(-a)); where exp overflows the result is -0."""
    return a / (np.float32(1) + np.exp(-a))


def gelu_tanh(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Return the tanh approximation of Hendrycks and Gimpel, arXiv:1606.08415, section 2."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (a + np.float32(0.044715) * a * a * a)
    return np.float32(0.5) * a * (np.float32(1) + np.tanh(inner))


def tanh(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.tanh(a)


def sin(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.sin(a)


def cos(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.cos(a)


def exp(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return np.exp(a)


def round(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Round to the nearest integer, ties to even."""
    return np.rint(a)


def clamp(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Clamp; a bound of None is no bound."""
    low, high = attrs["min"], attrs["max"]
    a = a if low is None else np.maximum(a, _scalar(low, a))
    return a if high is None else np.minimum(a, _scalar(high, a))


def cast(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    """Cast: float to integer truncates (values out of range are undefined); anything to bool is `!= 0`."""
    return a.astype(DTYPES[str(attrs["dtype"])].held, copy=False)


def where_scalar(attrs: Attrs, condition: np.ndarray, a: np.ndarray) -> np.ndarray:
    return np.where(condition, a, _scalar(attrs["value"], a))


def annotate(attrs: Attrs, a: np.ndarray) -> np.ndarray:
    return a
