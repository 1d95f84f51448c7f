"""The machines that are mocked: those on sale that the mesh fits, and else a plain grid of chips."""

from itertools import product

from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE
from mochi_aot.runtime.ttnn.mock import blackhole
from mochi_aot.runtime.ttnn.mock.cluster import Cluster, Link, Sides, board_grid, wire
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError

# The largest mesh that was tried.
_MOST_CHIPS = 64

_LINKS = 4  # between neighbours of a Galaxy, and of a grid
_SIDES = Sides(north=0, west=4, east=8, south=12)

# One board of one chip; two chips, as on one board; four and eight, cabled; and a Galaxy.
_BLACKHOLE = (*(blackhole.boards(*mesh) for mesh in ((1, 1), (1, 2), (2, 2), (2, 4))), blackhole.galaxy())


def machine_for(mesh: tuple[int, int], arch: str = WORMHOLE) -> Cluster:
    """Return the smallest machine on sale that the mesh fits, or else a grid: programs see its cores and links.

    Raises MockMeshError for meshes without or with too many chips.
    """
    rows, columns = mesh
    if not (rows >= 1 and columns >= 1 and rows * columns <= _MOST_CHIPS):
        raise MockMeshError(f"cannot mock a {rows}x{columns} mesh: a mesh has 1 to {_MOST_CHIPS} chips")
    machines = _BLACKHOLE if arch == BLACKHOLE else (loudbox(), galaxy())
    for machine in machines:
        if _fits(mesh, machine):
            return machine
    # ttnn takes no machine of two odd sides, but opens such a mesh in a larger one.
    columns += rows * columns % 2
    if rows * columns > _MOST_CHIPS:
        raise MockMeshError(
            f"cannot mock a {mesh[0]}x{mesh[1]} mesh: it takes {rows}x{columns}, more than {_MOST_CHIPS}"
        )
    return blackhole.boards(rows, columns) if arch == BLACKHOLE else grid(rows, columns)


def _fits(mesh: tuple[int, int], machine: Cluster) -> bool:
    """Whether ttnn finds the mesh in the machine: as it lies, turned, or as one line of chips."""
    short, long = sorted(mesh)
    if short == 1:
        return long <= machine.rows * machine.columns
    across, along = sorted((machine.rows, machine.columns))
    return short <= across and long <= along


# (chip, first channel) of both ends; chips i, on the host's bus, and i + 4 share board i.
#
#   4 - 0 - 2 - 6
#   |   |   |   |
#   5 - 1 - 3 - 7
_CABLES = (
    ((0, 8), (4, 0)),
    ((1, 8), (5, 0)),
    ((2, 8), (6, 0)),
    ((3, 8), (7, 0)),
    ((0, 6), (2, 6)),
    ((1, 0), (3, 0)),
    ((0, 14), (1, 14)),
    ((2, 14), (3, 14)),
    ((4, 6), (5, 6)),
    ((6, 6), (7, 6)),
)
_CABLE_LINKS = 2


def loudbox() -> Cluster:
    """Return a LoudBox or QuietBox: four n300 boards of two chips, cabled as a 2 x 4 mesh.

    Eight chips of 8 x 8 cores to compute on; dispatch runs on Ethernet cores.

    Of an n300 two rows of cores are fused off, here one: some of the checks that ttnn runs on mock devices take it that
    dispatch keeps a row for itself, and would refuse the last one (tt-metal issue 54475). Neither the cores to compute
    on nor the kernels built differ.
    """
    return Cluster(
        arch=WORMHOLE,
        name="loudbox",
        rows=2,
        columns=4,
        links_per_neighbour=_CABLE_LINKS,
        board="n300",
        board_chips=[[chip, chip + 4] for chip in range(4)],
        links=[link for a, b in _CABLES for link in wire(a, b, _CABLE_LINKS)],
        harvested=0b1,
        host_chips=list(range(4)),
        unique_ids=[1000 + chip for chip in range(8)],
        places=[(chip % 4, chip // 4) for chip in range(8)],
    )


_TRAYS, _PLACES = 4, 8
# By these ttnn tells which tray a chip is in; the place in the tray is added.
_TRAY_BUS_IDS = (0xC0, 0x80, 0x00, 0x40)


def galaxy() -> Cluster:
    """Return a Wormhole Galaxy: four trays of 2 x 4 chips, together an 8 x 4 mesh, which ttnn also opens as 4 x 8.

    32 chips of 8 x 9 cores to compute on (none is fused off, dispatch takes a row), all on the host's bus.
    """
    places = list(product(range(_PLACES), range(_TRAYS)))  # in the order of chips
    return Cluster(
        arch=WORMHOLE,
        name="galaxy",
        rows=8,
        columns=4,
        links_per_neighbour=_LINKS,
        board="ubb",
        board_chips=[list(range(len(places)))],
        links=_galaxy_links(),
        harvested=0,
        host_chips=list(range(len(places))),
        unique_ids=[(place + 1) << 56 | tray + 1 for place, tray in places],
        bus_ids=[_TRAY_BUS_IDS[tray] + place + 1 for place, tray in places],
    )


def _chip_of_tray(place: int, tray: int) -> int:
    """Return a chip's number. A tray's places are numbered by rows: 0 to 3, then 4 to 7."""
    return place * _TRAYS + tray


def _galaxy_links() -> list[Link]:
    links = []
    for tray in range(_TRAYS):
        for place in (0, 1, 2, 4, 5, 6):
            links += wire(
                (_chip_of_tray(place, tray), _SIDES.east), (_chip_of_tray(place + 1, tray), _SIDES.west), _LINKS
            )
        for place in (0, 1, 2, 3):
            links += wire(
                (_chip_of_tray(place, tray), _SIDES.south), (_chip_of_tray(place + 4, tray), _SIDES.north), _LINKS
            )
    # Neighbouring trays mirror each other, so that like sides meet.
    for left, right in ((0, 1), (2, 3)):
        for place in (3, 7):
            links += wire((_chip_of_tray(place, left), _SIDES.east), (_chip_of_tray(place, right), _SIDES.east), _LINKS)
    for upper, lower in ((0, 2), (1, 3)):
        for place in (4, 5, 6, 7):
            links += wire(
                (_chip_of_tray(place, upper), _SIDES.south), (_chip_of_tray(place, lower), _SIDES.south), _LINKS
            )
    return links


def grid(rows: int, columns: int) -> Cluster:
    """Return a grid of one-chip boards, for meshes that no machine on sale holds, numbered row by row.

    Each chip has 8 x 8 cores to compute on: one row is fused off, dispatch takes one.
    """
    return board_grid(WORMHOLE, "grid", "n150", (rows, columns), _SIDES, _LINKS, harvested=0b1)
