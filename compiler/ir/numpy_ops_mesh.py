"""Definitions of the ops that know the mesh: collectives, and statistics of a piece of a frame.

An operand is a list of arrays, one per device, row-major; so is each result.
"""

from collections.abc import Callable

import numpy as np

from mochi_aot.compiler.ir.numpy_ops_nn import joint_attention
from mochi_aot.compiler.ir.numpy_ops_video import statistics
from mochi_aot.compiler.ir.numpy_values import Devices, Mesh, once_each, piece, trim
from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Attrs


def _per_line(mesh: Mesh, axis: int, x: Devices, change: Callable[[Devices], Devices]) -> Devices:
    """Apply `change` to what the devices of each line along `axis` hold, in the order of their coordinates."""
    grid = np.arange(len(x)).reshape(mesh)
    result = list(x)
    made: dict[tuple[int, ...], Devices] = {}
    for line in (grid.T if axis == 0 else grid).tolist():
        key = tuple(id(x[device]) for device in line)
        if key not in made:
            made[key] = change([x[device] for device in line])
        for device, array in zip(line, made[key], strict=True):
            result[device] = array
    return result


def _gather(pieces: Devices, dim: int, size: int) -> np.ndarray:
    return trim(np.concatenate(pieces, dim), dim, size)


def _sum(parts: Devices) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _split(x: np.ndarray, dim: int, chunk: int, count: int, fill: float) -> Devices:
    return [piece(x, dim, chunk, c, fill) for c in range(count)]


def shard(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Keep each device's piece of what it holds."""
    axis, dim, chunk = (integer(attrs[key]) for key in ("axis", "dim", "chunk"))

    def change(held: Devices) -> Devices:
        return [piece(array, dim, chunk, c, fill) for c, array in enumerate(held)]

    return (_per_line(mesh, axis, x, change),)


def all_gather(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Join the pieces of a line in the order of coordinates, padding trimmed."""
    axis, dim, size = (integer(attrs[key]) for key in ("axis", "dim", "size"))
    return (_per_line(mesh, axis, x, lambda held: [_gather(held, dim, size)] * len(held)),)


def all_reduce(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    return (_per_line(mesh, integer(attrs["axis"]), x, lambda held: [_sum(held)] * len(held)),)


def reduce_scatter(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Sum over a line; each device keeps its piece of the sum."""
    axis, dim, chunk = (integer(attrs[key]) for key in ("axis", "dim", "chunk"))
    return (_per_line(mesh, axis, x, lambda held: _split(_sum(held), dim, chunk, len(held), fill)),)


def all_to_all(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Gather along `gather_dim`, then shard along `split_dim`."""
    keys = ("axis", "gather_dim", "size", "split_dim", "chunk")
    axis, gather_dim, size, split_dim, chunk = (integer(attrs[key]) for key in keys)

    def change(held: Devices) -> Devices:
        return _split(_gather(held, gather_dim, size), split_dim, chunk, len(held), fill)

    return (_per_line(mesh, axis, x, change),)


def halo_exchange(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Make pieces whose element i at coordinate c is global position c * chunk - before + i, clamped to the positions
    that exist."""
    keys = ("axis", "dim", "before", "after", "size", "chunk")
    axis, dim, before, after, size, chunk = (integer(attrs[key]) for key in keys)

    def change(held: Devices) -> Devices:
        whole = _gather(held, dim, size)
        offsets = np.arange(-before, chunk + after)
        return [whole.take(np.clip(c * chunk + offsets, 0, size - 1), dim) for c in range(len(held))]

    return (_per_line(mesh, axis, x, change),)


def ring_joint_attention(
    mesh: Mesh, attrs: Attrs, fill: float, q: Devices, k: Devices, v: Devices, *text: Devices
) -> tuple[Devices, Devices]:
    """Attend from each device's queries to all visual keys of its line; text is q, k, v and mask, all whole."""
    axis, size = integer(attrs["axis"]), integer(attrs["size"])
    keys = _per_line(mesh, axis, k, lambda held: [_gather(held, 1, size)] * len(held))
    values = _per_line(mesh, axis, v, lambda held: [_gather(held, 1, size)] * len(held))
    results = once_each(lambda *held: joint_attention(attrs, *held), [q, keys, values, *text])
    return [visual for visual, _ in results], [out for _, out in results]


def group_norm_stats(mesh: Mesh, attrs: Attrs, fill: float, x: Devices) -> tuple[Devices]:
    """Return the statistics of the positions that exist.

    Of two entries of `valid` for one dim, the major axis comes first.
    """
    groups = integer(attrs["groups"])
    return ([statistics(a, groups, _exists(mesh, attrs, n, a.shape)[..., None]) for n, a in enumerate(x)],)


def count_nonfinite(mesh: Mesh, attrs: Attrs, fill: float, x: Devices, before: Devices | None = None) -> tuple[Devices]:
    """Return how many of each device's elements that exist are not finite, and as many as were counted `before`."""
    found = [np.sum(~np.isfinite(a) & _exists(mesh, attrs, n, a.shape)) for n, a in enumerate(x)]
    counts = [np.full((1, 1), count, np.float32) for count in found]
    return (counts if before is None else [a + b for a, b in zip(counts, before, strict=True)],)


def _exists(mesh: Mesh, attrs: Attrs, device: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return which positions of a device's [B, T, H, W, C] are no padding, broadcastable to it."""
    valid = attrs["valid"]
    if not isinstance(valid, list):
        raise ValueError(f"valid is {valid!r}, not a list")
    mask = np.ones((1,) * 5, np.bool_)
    position = [np.arange(n) for n in shape]
    for entry in reversed(valid):
        dim, axis, chunk, size = ints(entry)
        coordinate = divmod(device, mesh[1])[axis]
        position[dim] = position[dim] + coordinate * chunk
        mask = mask & (position[dim] < size).reshape([-1 if d == dim else 1 for d in range(5)])
    return mask
