"""Ops that move data between devices, as they are defined: computed from the tensors of all devices at once."""

from collections.abc import Callable
from itertools import batched
from typing import Any

import torch

from mochi_aot.runtime.torch.attention import Tokens
from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from mochi_aot.runtime.torch.ring_attention import ring_joint_attention
from mochi_aot.runtime.torch.sharding import join, piece, valid_extent
from mochi_aot.runtime.torch.types import Attrs, Collective, CollectiveBuilder, Group, Value


def _per_group(mesh: Mesh, axis: int, fn: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Lift fn(a Group for each operand) -> a result for each device of the group, to Values.

    Groups that hold replicas of each other's tensors are computed once.
    """
    groups = mesh.groups(axis)

    def collective(*values: Value) -> list[Any]:
        calls = (tuple(value[device] for value in values for device in group) for group in groups)
        by_group = once_per_distinct(lambda *flat: fn(*batched(flat, len(groups[0]))), calls)
        results: list[Any] = [None] * mesh.size
        for group, outcome in zip(groups, by_group, strict=True):
            for device, result in zip(group, outcome, strict=True):
                results[device] = result
        return results

    return collective


def _cut(tensors: Group, dim: int, chunk: int) -> list[torch.Tensor]:
    """Cut each device's own piece out of its tensor."""
    return [piece(tensor, dim, coordinate, chunk) for coordinate, tensor in enumerate(tensors)]


def total(tensors: Group) -> torch.Tensor:
    """Return the sum, accumulated in float32 and rounded once."""
    if len(tensors) == 1:
        return tensors[0]
    total = tensors[0].float() + tensors[1]
    for tensor in tensors[2:]:
        total.add_(tensor)
    return total.to(tensors[0].dtype)


def _all_gather(mesh: Mesh, attrs: Attrs) -> Collective:
    dim, size = attrs["dim"], attrs["size"]
    return _per_group(mesh, attrs["axis"], lambda tensors: [join(tensors, dim, size)] * len(tensors))


def _all_reduce(mesh: Mesh, attrs: Attrs) -> Collective:
    return _per_group(mesh, attrs["axis"], lambda tensors: [total(tensors)] * len(tensors))


def _reduce_scatter(mesh: Mesh, attrs: Attrs) -> Collective:
    dim, chunk = attrs["dim"], attrs["chunk"]
    return _per_group(mesh, attrs["axis"], lambda tensors: _cut([total(tensors)] * len(tensors), dim, chunk))


def _all_to_all(mesh: Mesh, attrs: Attrs) -> Collective:
    gather_dim, size, split_dim, chunk = (attrs[k] for k in ("gather_dim", "size", "split_dim", "chunk"))

    def exchange(tensors: Group) -> list[torch.Tensor]:
        # Cut first: no device ever holds the whole.
        cut = [[piece(tensor, split_dim, part, chunk) for tensor in tensors] for part in range(len(tensors))]
        return [join(pieces, gather_dim, size) for pieces in cut]

    return _per_group(mesh, attrs["axis"], exchange)


def _halo_exchange(mesh: Mesh, attrs: Attrs) -> Collective:
    """Extend each device's piece by `before` and `after` positions around it; past the ends the border is repeated."""
    dim, before, after, size, chunk = (attrs[k] for k in ("dim", "before", "after", "size", "chunk"))

    def exchange(tensors: Group) -> list[torch.Tensor]:
        whole = join(tensors, dim, size)
        window = torch.arange(-before, chunk + after, device=whole.device)
        positions = [(window + coordinate * chunk).clamp_(0, size - 1) for coordinate in range(len(tensors))]
        return [whole.index_select(dim, indices) for indices in positions]

    return _per_group(mesh, attrs["axis"], exchange)


def _ring_joint_attention(mesh: Mesh, attrs: Attrs) -> Collective:
    scale, size, chunk = attrs["scale"], attrs["size"], attrs["chunk"]

    def attend(*groups: Group) -> list[tuple[torch.Tensor, torch.Tensor]]:
        extents = [valid_extent(coordinate, chunk, size) for coordinate in range(len(groups[0]))]
        visual = [Tokens(*tensors) for tensors in zip(*groups[:3], strict=True)]
        text = Tokens(*(group[0] for group in groups[3:6]))
        return ring_joint_attention(visual, text, groups[6][0], extents, scale)

    attend_all = _per_group(mesh, attrs["axis"], attend)
    return lambda *values: [list(value) for value in zip(*attend_all(*values), strict=True)]


COLLECTIVES: dict[str, CollectiveBuilder] = {
    "all_gather": _all_gather,
    "all_reduce": _all_reduce,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "halo_exchange": _halo_exchange,
    "ring_joint_attention": _ring_joint_attention,
}
