"""Elementwise ops. Operands broadcast as in numpy and have equal dtypes."""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.types import DTYPES, Attrs, Builder, Kernel


def _plain(fn: Kernel) -> Builder:
    return lambda attrs: fn


def _add_scalar(attrs: Attrs) -> Kernel:
    value = attrs["value"]
    return lambda a: a + value


def _mul_scalar(attrs: Attrs) -> Kernel:
    value = attrs["value"]
    return lambda a: a * value


def _gelu_tanh(attrs: Attrs) -> Kernel:
    return lambda a: F.gelu(a, approximate="tanh")


def _clamp(attrs: Attrs) -> Kernel:
    low, high = attrs["min"], attrs["max"]
    return lambda a: torch.clamp(a, low, high)


def _cast(attrs: Attrs) -> Kernel:
    dtype = DTYPES[attrs["dtype"]]
    return lambda a: a.to(dtype)


def _where_scalar(attrs: Attrs) -> Kernel:
    value = attrs["value"]
    return lambda condition, a: torch.where(condition, a, value)


ELEMENTWISE: dict[str, Builder] = {
    "add": _plain(torch.add),
    "sub": _plain(torch.sub),
    "mul": _plain(torch.mul),
    "div": _plain(torch.div),
    "silu": _plain(F.silu),
    "tanh": _plain(torch.tanh),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    "exp": _plain(torch.exp),
    "round": _plain(torch.round),
    "gelu_tanh": _gelu_tanh,
    "add_scalar": _add_scalar,
    "mul_scalar": _mul_scalar,
    "clamp": _clamp,
    "cast": _cast,
    "where_scalar": _where_scalar,
}
