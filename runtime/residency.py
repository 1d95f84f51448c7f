"""Whether devices have room for the weights of a whole video at once, so that the next prompt finds them there."""

import math

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Weight

_TILE = 32
_BYTES = {"float32": 4, "bfloat16": 2, "uint32": 4, "int32": 4, "bfloat8_b": 1088 / 1024}  # of a number in a tile
_SPARE = 0.03  # of a device's memory, which is given out in pieces


def all_weights_fit(bundle: Bundle, geometry: Geometry, device_bytes: int | None) -> bool:
    """Whether the weights of all programs and what any program needs besides its own are below a device's memory.

    False where nobody has measured that: without `device_bytes`, or a dry run of each program.
    """
    if device_bytes is None or geometry.dram_peaks.keys() != geometry.programs.keys():
        return False
    needed: dict[str, float] = {}
    besides = 0.0
    for role in geometry.programs:
        sizes = {w.name: _device_bytes(bundle.weights[w.name]) for w in bundle.program(role, geometry).weights}
        needed |= sizes
        besides = max(besides, geometry.dram_peaks[role] - sum(sizes.values()))
    return sum(needed.values()) + besides <= (1 - _SPARE) * device_bytes


def _device_bytes(weight: Weight) -> float:
    """What a device holds of it, in tiles."""
    *outer, height, width = (1, 1, *weight.local_shape)
    padded = (-(-height // _TILE) * _TILE, -(-width // _TILE) * _TILE)
    return math.prod((*outer, *padded)) * _BYTES[weight.dtype]
