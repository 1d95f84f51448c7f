"""Ops that move nothing, but whose result depends on where on the mesh a device stands."""

from mochi_aot.runtime.torch.finite import count_nonfinite
from mochi_aot.runtime.torch.group_norm import group_norm_stats
from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from mochi_aot.runtime.torch.sharding import piece, valid_extent
from mochi_aot.runtime.torch.types import Attrs, Collective, CollectiveBuilder, Value


def _shard(mesh: Mesh, attrs: Attrs) -> Collective:
    """Cut each device's own piece out of its tensor."""
    dim, chunk, axis = attrs["dim"], attrs["chunk"], attrs["axis"]
    coordinates = [mesh.coordinate(device, axis) for device in mesh.held]

    def shard(value: Value) -> Value:
        return once_per_distinct(lambda x, c: piece(x, dim, c, chunk), zip(value, coordinates, strict=True))

    return shard


def _group_norm_stats(mesh: Mesh, attrs: Attrs) -> Collective:
    """Compute a local op in which what is padding depends on the device."""
    groups, extents = attrs["groups"], _all_extents(mesh, attrs["valid"])

    def stats(value: Value) -> Value:
        return once_per_distinct(lambda x, e: group_norm_stats(x, groups, e), zip(value, extents, strict=True))

    return stats


def _count_nonfinite(mesh: Mesh, attrs: Attrs) -> Collective:
    """Compute a local op in which what is padding depends on the device."""
    extents = _all_extents(mesh, attrs["valid"])

    def count(value: Value, *before: Value) -> Value:
        return once_per_distinct(count_nonfinite, zip(value, extents, *before, strict=True))

    return count


def _all_extents(mesh: Mesh, valid: list[list[int]]) -> list[tuple[int | None, ...]]:
    """Return `_extents` of each device; equal ones are one object."""
    interned: dict[tuple[int | None, ...], tuple[int | None, ...]] = {}
    extents = [_extents(mesh, device, valid) for device in mesh.held]
    return [interned.setdefault(extent, extent) for extent in extents]


def _extents(mesh: Mesh, device: int, valid: list[list[int]]) -> tuple[int | None, ...]:
    """Return, per dimension of [B,T,H,W,C], how many positions of this device are real; None where all are.

    `valid` lists [dim, axis, chunk, size], outer axis first: the same dimension may be cut twice.
    """
    extents: list[int | None] = [None] * 5
    for dim, axis, chunk, size in valid:
        outer = extents[dim]
        available = size if outer is None else min(size, outer)
        extents[dim] = valid_extent(mesh.coordinate(device, axis), chunk, available)
    return tuple(extents)


POSITIONAL: dict[str, CollectiveBuilder] = {
    "shard": _shard,
    "group_norm_stats": _group_norm_stats,
    "count_nonfinite": _count_nonfinite,
}
