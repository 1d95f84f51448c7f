"""A plain grid of one-chip boards, for meshes that no machine on sale holds."""

from mochi_aot.runtime.ttnn.mock.cluster import Cluster, Link, wire

_LINKS = 4
_NORTH, _WEST, _EAST, _SOUTH = 0, 4, 8, 12  # the first channel of each side of a chip


def grid(rows: int, columns: int) -> Cluster:
    """Chips of 8 x 8 cores to compute on (one row is fused off, dispatch takes one), numbered row by row."""
    chips = range(rows * columns)
    return Cluster(
        name=f"grid-{rows}x{columns}",
        rows=rows,
        columns=columns,
        links_per_neighbour=_LINKS,
        board="n150",
        board_chips=[[chip] for chip in chips],
        links=_links(rows, columns),
        harvested_rows=0b1,
        host_chips=list(chips),
        unique_ids=[1000 + chip for chip in chips],
    )


def _links(rows: int, columns: int) -> list[Link]:
    links = []
    for chip in range(rows * columns):
        if chip % columns + 1 < columns:
            links += wire((chip, _EAST), (chip + 1, _WEST), _LINKS)
        if chip // columns + 1 < rows:
            links += wire((chip, _SOUTH), (chip + columns, _NORTH), _LINKS)
    return links
