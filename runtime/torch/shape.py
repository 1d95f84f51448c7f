"""Ops that move or choose elements. Results may be views: values are never written in place."""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


def _reshape(attrs: Attrs) -> Kernel:
    shape = attrs["shape"]
    return lambda a: a.reshape(shape)


def _permute(attrs: Attrs) -> Kernel:
    dims = attrs["dims"]
    return lambda a: a.permute(dims)


def _slice(attrs: Attrs) -> Kernel:
    dim, start = attrs["dim"], attrs["start"]
    length = attrs["stop"] - start
    return lambda a: a.narrow(dim, start, length)


def _concat(attrs: Attrs) -> Kernel:
    dim = attrs["dim"]
    return lambda *tensors: torch.cat(tensors, dim)


def _expand(attrs: Attrs) -> Kernel:
    shape = attrs["shape"]
    return lambda a: a.expand(shape)


def _select(attrs: Attrs) -> Kernel:
    dim = attrs["dim"]
    # index_select reads the index on the device, so that a GPU need not wait for the host.
    return lambda table, index: table.index_select(dim, index).squeeze(dim)


def _embedding(attrs: Attrs) -> Kernel:
    return lambda weight, ids: F.embedding(ids, weight)


SHAPE: dict[str, Builder] = {
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "concat": _concat,
    "expand": _expand,
    "select": _select,
    "embedding": _embedding,
}
