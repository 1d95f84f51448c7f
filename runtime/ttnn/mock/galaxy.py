"""A Wormhole Galaxy: four trays of 2 x 4 chips, together an 8 x 4 mesh, which ttnn also opens as 4 x 8."""

from itertools import product

from mochi_aot.runtime.ttnn.mock.cluster import Cluster, Link, wire

_TRAYS, _PLACES, _LINKS = 4, 8, 4
_NORTH, _WEST, _EAST, _SOUTH = 0, 4, 8, 12  # the first channel of each side of a chip
# By these ttnn tells which tray a chip is in; the place in the tray is added.
_TRAY_BUS_IDS = (0xC0, 0x80, 0x00, 0x40)


def galaxy() -> Cluster:
    """32 chips of 8 x 9 cores to compute on (none is fused off, dispatch takes a row), all on the host's bus."""
    places = list(product(range(_PLACES), range(_TRAYS)))  # in the order of chips
    return Cluster(
        name="galaxy",
        rows=8,
        columns=4,
        links_per_neighbour=_LINKS,
        board="ubb",
        board_chips=[list(range(len(places)))],
        links=_links(),
        harvested_rows=0,
        host_chips=list(range(len(places))),
        unique_ids=[(place + 1) << 56 | tray + 1 for place, tray in places],
        bus_ids=[_TRAY_BUS_IDS[tray] + place + 1 for place, tray in places],
    )


def _chip(place: int, tray: int) -> int:
    """A tray's places are numbered by rows: 0 to 3, then 4 to 7."""
    return place * _TRAYS + tray


def _links() -> list[Link]:
    links = []
    for tray in range(_TRAYS):
        for place in (0, 1, 2, 4, 5, 6):
            links += wire((_chip(place, tray), _EAST), (_chip(place + 1, tray), _WEST), _LINKS)
        for place in (0, 1, 2, 3):
            links += wire((_chip(place, tray), _SOUTH), (_chip(place + 4, tray), _NORTH), _LINKS)
    # Neighbouring trays mirror each other, so that like sides meet.
    for left, right in ((0, 1), (2, 3)):
        for place in (3, 7):
            links += wire((_chip(place, left), _EAST), (_chip(place, right), _EAST), _LINKS)
    for upper, lower in ((0, 2), (1, 3)):
        for place in (4, 5, 6, 7):
            links += wire((_chip(place, upper), _SOUTH), (_chip(place, lower), _SOUTH), _LINKS)
    return links
