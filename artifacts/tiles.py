"""How much memory tensors take on a device that keeps them in tiles."""

from collections.abc import Sequence
from math import prod

from mochi_aot.artifacts.dtypes import BLOCK_DTYPES, DTYPES

TILE_SIZE = 32  # rows, and columns, of a tile


def tiled_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape with its last two dimensions, of which a vector has one, padded to whole tiles."""
    *outer, height, width = shape if len(shape) > 1 else (1, *shape)
    return (*outer, -(-height // TILE_SIZE) * TILE_SIZE, -(-width // TILE_SIZE) * TILE_SIZE)


def device_bytes(dtype: str, shape: Sequence[int], layout: str = "tile") -> float:
    """Return the bytes of a tensor on a device, in tiles or, with the layout row_major, as it is."""
    itemsize = BLOCK_DTYPES[dtype] / TILE_SIZE**2 if dtype in BLOCK_DTYPES else DTYPES[dtype].itemsize
    return prod(tiled_shape(shape) if layout == "tile" else shape) * itemsize
