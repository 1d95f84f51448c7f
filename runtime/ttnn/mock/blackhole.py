"""Machines of Blackhole chips: boards of one and of two chips, grids of them, and a Galaxy."""

from itertools import product

from mochi_aot.artifacts.machines import BLACKHOLE
from mochi_aot.runtime.ttnn.mock.cluster import Cluster, Link, Sides, board_grid, wire

_LINKS = 2  # between neighbours
# The first channel of each side of a chip. A board of one chip has its ports on channels 4 to 11, a Galaxy's chip on 0
# to 7.
_BOARD_SIDES = Sides(north=4, west=6, east=8, south=10)
_GALAXY_SIDES = Sides(north=0, west=2, east=4, south=6)
# Two columns of cores are fused off of a board's chip, one of a Galaxy's; dispatch takes another.
_TWO_COLUMNS, _ONE_COLUMN = 0b1100_0000, 0b1000_0000


def boards(rows: int, columns: int) -> Cluster:
    """Return a grid of p150 boards of one chip each, numbered row by row: 11 x 10 cores to compute on."""
    return board_grid(BLACKHOLE, "p150", "p150", (rows, columns), _BOARD_SIDES, _LINKS, _TWO_COLUMNS)


# A Galaxy's chips lie in 4 x 8, a tray of 2 x 4 in each corner. Places of a tray are numbered by rows.
_ROWS, _COLUMNS = 4, 8
_TRAY_ROWS, _TRAY_COLUMNS = 2, 4
# By these ttnn tells which tray a chip is in, by the tray's corner (below, right); the place in the tray is added.
_TRAY_BUS_IDS = {(0, 0): 0x00, (1, 0): 0x40, (1, 1): 0x80, (0, 1): 0xC0}


def galaxy() -> Cluster:
    """Return a Blackhole Galaxy: an 8 x 4 mesh, which ttnn also opens as 4 x 8. Both axes are rings; 12 x 10 cores.

    Wired as the driver's own description of one: trays mirror their neighbours, so that like sides meet.
    """
    chips = list(product(range(_ROWS), range(_COLUMNS)))
    places = [_place(row, column) for row, column in chips]
    return Cluster(
        arch=BLACKHOLE,
        name="blackhole-galaxy",
        rows=8,
        columns=4,
        links_per_neighbour=_LINKS,
        board="ubb_blackhole",
        board_chips=[list(range(len(chips)))],
        links=_galaxy_links(chips),
        harvested=_ONE_COLUMN,
        host_chips=list(range(len(chips))),
        unique_ids=[(place + 1) << 56 | bus + 1 for bus, place in places],
        bus_ids=[bus + place + 1 for bus, place in places],
        asic_locations=[place + 1 for _, place in places],
        torus=True,
    )


def _place(row: int, column: int) -> tuple[int, int]:
    """Return the bus of a chip's tray and its place there."""
    below, right = row >= _TRAY_ROWS, column >= _TRAY_COLUMNS
    inner_row = _ROWS - 1 - row if below else row
    inner_column = _COLUMNS - 1 - column if right else column
    return _TRAY_BUS_IDS[below, right], inner_row * _TRAY_COLUMNS + inner_column


def _galaxy_links(chips: list[tuple[int, int]]) -> list[Link]:
    links = []
    for row, column in chips:
        here = row * _COLUMNS + column
        right, below = row * _COLUMNS + (column + 1) % _COLUMNS, (row + 1) % _ROWS * _COLUMNS + column
        sides = _GALAXY_SIDES
        ends = _ends(column, _TRAY_COLUMNS, sides.west, sides.east), _ends(row, _TRAY_ROWS, sides.north, sides.south)
        for (out, into), there in zip(ends, (right, below), strict=True):
            links += wire((here, out), (there, into), _LINKS)
    return links


def _ends(index: int, size: int, first: int, last: int) -> tuple[int, int]:
    """Return the sides that meet between a chip and the next along an axis of two mirrored trays of `size` chips."""
    if index == size - 1:
        return last, last
    if index == 2 * size - 1:
        return first, first
    return (last, first) if index < size else (first, last)
