"""Which machine to mock for a mesh."""

from mochi_aot.runtime.ttnn.mock.cluster import Cluster
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError
from mochi_aot.runtime.ttnn.mock.galaxy import galaxy
from mochi_aot.runtime.ttnn.mock.grid import grid
from mochi_aot.runtime.ttnn.mock.loudbox import loudbox

# The largest mesh that was tried.
_MOST_CHIPS = 64


def machine_for(mesh: tuple[int, int]) -> Cluster:
    """The smallest machine on sale that the mesh fits, whose cores and links its programs will then see; else a grid.

    Raises MockMeshError for meshes without or with too many chips, and for those that ttnn refuses.
    """
    rows, columns = mesh
    if not (rows >= 1 and columns >= 1 and rows * columns <= _MOST_CHIPS):
        raise MockMeshError(f"cannot mock a {rows}x{columns} mesh: a mesh has 1 to {_MOST_CHIPS} chips")
    for machine in (loudbox(), galaxy()):
        if _fits(mesh, machine):
            return machine
    if rows % 2 and columns % 2:
        raise MockMeshError(f"cannot mock a {rows}x{columns} mesh: ttnn wants one even side, or a mesh that fits 8x4")
    return grid(rows, columns)


def _fits(mesh: tuple[int, int], machine: Cluster) -> bool:
    """Whether ttnn finds the mesh in the machine: as it lies, turned, or as one line of chips."""
    short, long = sorted(mesh)
    if short == 1:
        return long <= machine.rows * machine.columns
    across, along = sorted((machine.rows, machine.columns))
    return short <= across and long <= along
