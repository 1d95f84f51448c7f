"""Cutting a dimension into equal pieces, and joining them again. The last pieces may be partly or wholly padding."""

from collections.abc import Sequence

import torch


def valid_extent(coordinate: int, chunk: int, size: int) -> int:
    """Return how many of the `chunk` positions of piece `coordinate` lie before `size`; the others are padding."""
    return max(0, min(chunk, size - coordinate * chunk))


def piece(x: torch.Tensor, dim: int, coordinate: int, chunk: int) -> torch.Tensor:
    """Return positions [coordinate*chunk, (coordinate+1)*chunk) of `dim`, contiguous, zeros past the end of x."""
    size = x.shape[dim]
    extent = valid_extent(coordinate, chunk, size)
    part = x.narrow(dim, min(coordinate * chunk, size), extent)
    if extent == chunk:
        return part.contiguous()
    shape = list(x.shape)
    shape[dim] = chunk
    padded = x.new_zeros(shape)
    padded.narrow(dim, 0, extent).copy_(part)
    return padded


def join(pieces: Sequence[torch.Tensor], dim: int, size: int) -> torch.Tensor:
    """Return the first `size` positions of the pieces, one after the other."""
    chunk = pieces[0].shape[dim]
    extents = (valid_extent(coordinate, chunk, size) for coordinate in range(len(pieces)))
    parts = [part.narrow(dim, 0, extent) for part, extent in zip(pieces, extents, strict=True) if extent > 0]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
