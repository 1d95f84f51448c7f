"""The ops that move data, where each device is a process: what the simulation's are, in the same order of sums."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from mochi_aot.runtime.torch.attention import Tokens
from mochi_aot.runtime.torch.collectives import total
from mochi_aot.runtime.torch.distributed.axis import Axis
from mochi_aot.runtime.torch.distributed.ring import ring_joint_attention
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.sharding import join, piece, valid_extent
from mochi_aot.runtime.torch.types import Attrs, Collective, CollectiveBuilder, Value

# An op on this process's tensors, for the processes along an axis.
Build = Callable[[Axis, Attrs], Callable[..., Any]]

# Below this all processes send each other all that they have: one message takes as long as another.
_FEW_BYTES = 1 << 16


def collectives(axes: Sequence[Axis]) -> dict[str, CollectiveBuilder]:
    """Return the builders of all such ops, for this process's column (axis 0) and row (axis 1)."""
    return {op: partial(_on_values, build, axes) for op, build in _OPS.items()}


def _on_values(build: Build, axes: Sequence[Axis], mesh: Mesh, attrs: Attrs) -> Collective:
    """Lift an op on tensors to Values, which have one tensor here."""
    fn = build(axes[attrs["axis"]], attrs)

    def collective(*values: Value) -> Any:
        made = fn(*(value[0] for value in values))
        return [[tensor] for tensor in made] if isinstance(made, tuple) else [made]

    return collective


def _joined(parts: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """Return the first `size` positions along `dim` of parts [parts, ...], one after the other; without a copy if so
    they lie in memory."""
    count, *shape = parts.shape
    if size == count * shape[dim] and parts.is_contiguous() and all(length == 1 for length in shape[:dim]):
        return parts.view(*shape[:dim], size, *shape[dim + 1 :])
    return join(parts.unbind(0), dim, size)


def _pieces(x: torch.Tensor, dim: int, chunk: int, count: int) -> torch.Tensor:
    """Return all pieces of x along `dim`, [count, ...], the last ones filled up with zeros."""
    return torch.stack([piece(x, dim, coordinate, chunk) for coordinate in range(count)])


def _all_gather(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    dim, size = attrs["dim"], attrs["size"]
    return lambda x: _joined(axis.gather(x), dim, size)


def _all_reduce(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    """Each process adds up one piece, and gives the sum to all. Two processes send no more where each adds all."""

    def all_reduce(x: torch.Tensor) -> torch.Tensor:
        if axis.size <= 2 or x.nbytes <= _FEW_BYTES:
            return total(axis.gather(x).unbind(0))
        flat = x.reshape(-1)
        sums = total(axis.exchange(_pieces(flat, 0, -(-len(flat) // axis.size), axis.size)).unbind(0))
        return _joined(axis.gather(sums), 0, len(flat)).view(x.shape)

    return all_reduce


def _reduce_scatter(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    dim, chunk = attrs["dim"], attrs["chunk"]
    return lambda x: total(axis.exchange(_pieces(x, dim, chunk, axis.size)).unbind(0))


def _all_to_all(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    gather_dim, size, split_dim, chunk = (attrs[k] for k in ("gather_dim", "size", "split_dim", "chunk"))
    return lambda x: _joined(axis.exchange(_pieces(x, split_dim, chunk, axis.size)), gather_dim, size)


def _halo_exchange(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    """See the simulation's: which positions a process needs of which other one is known before any data is."""
    dim, before, after, size, chunk = (attrs[k] for k in ("dim", "before", "after", "size", "chunk"))
    me = axis.coordinate
    windows = [(c * chunk - before, (c + 1) * chunk + after) for c in range(axis.size)]
    needs = [(min(max(start, 0), size - 1), min(max(stop, 1), size)) for start, stop in windows]
    low, high = needs[me]

    def overlap(holder: int, needed: tuple[int, int]) -> tuple[int, int]:
        """Return the positions, counted from those of `holder`, that it has of those needed."""
        first, extent = holder * chunk, valid_extent(holder, chunk, size)
        return max(needed[0] - first, 0), min(needed[1] - first, extent)

    others = [c for c in range(axis.size) if c != me]
    mine = [(c, overlap(me, needs[c])) for c in others]
    theirs = [(c, overlap(c, needs[me])) for c in others]
    gives = {c: part for c, part in mine if part[0] < part[1]}
    takes = {c: part for c, part in theirs if part[0] < part[1]}
    own = overlap(me, needs[me])
    start, stop = windows[me]

    def exchange(x: torch.Tensor) -> torch.Tensor:
        shape = list(x.shape)
        received = {}
        for c, (first, end) in takes.items():
            shape[dim] = end - first
            received[c] = x.new_empty(shape)
        wait = axis.start({c: x.narrow(dim, a, b - a) for c, (a, b) in gives.items()}, received)
        parts = dict(received)
        if own[0] < own[1]:
            parts[me] = x.narrow(dim, own[0], own[1] - own[0])
        wait()
        held = torch.cat([parts[c] for c in sorted(parts)], dim)
        if (low, high) == (start, stop):
            return held
        positions = torch.arange(start, stop, device=x.device).clamp_(0, size - 1) - low
        return held.index_select(dim, positions)

    return exchange


def _ring_joint_attention(axis: Axis, attrs: Attrs) -> Callable[..., Any]:
    scale, size, chunk = attrs["scale"], attrs["size"], attrs["chunk"]
    extents = [valid_extent(coordinate, chunk, size) for coordinate in range(axis.size)]

    def attend(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ring_joint_attention(axis, Tokens(*tensors[:3]), Tokens(*tensors[3:6]), tensors[6], extents, scale)

    return attend


_OPS: dict[str, Build] = {
    "all_gather": _all_gather,
    "all_reduce": _all_reduce,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "halo_exchange": _halo_exchange,
    "ring_joint_attention": _ring_joint_attention,
}
