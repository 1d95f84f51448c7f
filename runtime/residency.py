"""Which weights there is room for throughout, so that the next prompt finds them there."""

from mochi_aot.artifacts.memory import free_memory
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


def remade_that_stay(bundle: Bundle) -> frozenset[str]:
    """Return the weights that this host makes again of a delta's factors, the first ones that together take a quarter
    of the memory that is free: unlike others they are not in the file cache, and making them takes long."""
    left, staying = free_memory() // 4, set()
    for name in bundle.tuned:
        left -= sum(part.nbytes for part in bundle.parts(name))
        if left < 0:
            break
        staying.add(name)
    return frozenset(staying)


def _held_bytes(weight: Weight) -> float:
    return device_bytes(weight.dtype, weight.local_shape)
