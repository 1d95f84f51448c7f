"""Whether devices have room for the weights of a whole video at once, so that the next prompt finds them there."""

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Weight
from mochi_aot.artifacts.tiles import device_bytes

_SPARE = 0.03  # of a device's memory, which is given out in pieces


def all_weights_fit(bundle: Bundle, geometry: Geometry, memory_bytes: int | None) -> bool:
    """Tell whether the weights of all programs and what any program needs besides its own are below a device's memory.

    False where nobody has measured that: without `memory_bytes`, or a dry run of each program.
    """
    if memory_bytes is None or geometry.dram_peaks.keys() != geometry.programs.keys():
        return False
    needed: dict[str, float] = {}
    besides = 0.0
    for role in geometry.programs:
        sizes = {w.name: _held_bytes(bundle.weights[w.name]) for w in bundle.program(role, geometry).weights}
        needed |= sizes
        besides = max(besides, geometry.dram_peaks[role] - sum(sizes.values()))
    return sum(needed.values()) + besides <= (1 - _SPARE) * memory_bytes


def _held_bytes(weight: Weight) -> float:
    return device_bytes(weight.dtype, weight.local_shape)
