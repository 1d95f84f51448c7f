"""From one whole tensor to a tensor a device and back, as a TensorSpec says."""

import torch

from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from mochi_aot.runtime.torch.sharding import join, piece
from mochi_aot.runtime.torch.types import Value


def split(x: torch.Tensor, spec: TensorSpec, mesh: Mesh) -> Value:
    """Cut x [*spec.shape] for each device, padded with zeros to spec.local_shape. Replicas share one tensor.

    If both mesh axes cut the same dimension, axis 1 cuts the pieces that axis 0 made.
    """
    by_row, by_column = spec.placements
    rows = _cut(x, by_row, mesh.rows)
    cut_rows = once_per_distinct(lambda row: _cut(row, by_column, mesh.columns), ((row,) for row in rows))
    return [tensor for row in cut_rows for tensor in row]


def own_piece(x: torch.Tensor, spec: TensorSpec, mesh: Mesh) -> torch.Tensor:
    """Return the tensor that `split` makes for the one device that this process is."""
    (device,) = mesh.held
    for axis, placement in enumerate(spec.placements):
        if placement is not None:
            x = piece(x, placement.dim, mesh.coordinate(device, axis), placement.chunk)
    return x.contiguous()


def assemble(value: Value, spec: TensorSpec, mesh: Mesh) -> torch.Tensor:
    """Undo split: return a tensor of spec.shape, without padding; of replicas, the first device's."""
    by_row, by_column = spec.placements
    width = mesh.columns
    rows = [_join(value[r * width : (r + 1) * width], by_column, _size_in_row(spec)) for r in range(mesh.rows)]
    return _join(rows, by_row, None if by_row is None else spec.shape[by_row.dim])


def _cut(x: torch.Tensor, placement: Placement | None, count: int) -> Value:
    if placement is None:
        return [x.contiguous()] * count
    return [piece(x, placement.dim, coordinate, placement.chunk) for coordinate in range(count)]


def _join(pieces: Value, placement: Placement | None, size: int | None) -> torch.Tensor:
    if placement is None or size is None:
        return pieces[0]
    return join(pieces, placement.dim, size)


def _size_in_row(spec: TensorSpec) -> int | None:
    """Return the size that a row of devices holds of what axis 1 cuts: axis 0's chunk, if axis 0 cuts it too."""
    by_row, by_column = spec.placements
    if by_column is None:
        return None
    if by_row is not None and by_row.dim == by_column.dim:
        return by_row.chunk
    return spec.shape[by_column.dim]
