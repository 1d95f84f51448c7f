"""Global semaphores of a mesh: made at their first use, and kept for as long as the mesh is open.

They must not go before the mesh does. ttnn's ring attention keeps, in the program that it caches for calls of one kind,
the semaphores of the first such call; freed, their place in L1 is given to a tensor, which later calls then overwrite.
"""

from collections.abc import Hashable
from typing import Any

import ttnn

# By the mesh's id: a mesh device can be neither extended nor weakly referenced.
_KEPT: dict[int, dict[Hashable, list[Any]]] = {}


def semaphores(mesh: ttnn.MeshDevice, use: Hashable, count: int) -> list[Any]:
    """Return the `count` semaphores, on all cores of all chips, that belong to `use`; the same ones whenever asked."""
    kept = _KEPT.setdefault(mesh.id(), {})
    if use not in kept:
        size = mesh.compute_with_storage_grid_size()
        cores = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(size.x - 1, size.y - 1))})
        kept[use] = [ttnn.create_global_semaphore(mesh, cores, 0) for _ in range(count)]
    return kept[use]


def forget_semaphores(mesh: ttnn.MeshDevice) -> None:
    """Let the semaphores of a mesh go, when it closes."""
    _KEPT.pop(mesh.id(), None)
