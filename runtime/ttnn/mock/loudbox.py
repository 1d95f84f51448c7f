"""A LoudBox or QuietBox: four n300 boards of two chips, cabled as a 2 x 4 mesh."""

from mochi_aot.runtime.ttnn.mock.cluster import Cluster, wire

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
_LINKS = 2


def loudbox() -> Cluster:
    """Eight chips of 8 x 8 cores to compute on; dispatch runs on Ethernet cores.

    Of an n300 two rows of cores are fused off, here one: some of the checks that ttnn runs on mock devices take it that
    dispatch keeps a row for itself, and would refuse the last one (tt-metal issue 54475). Neither the cores to compute
    on nor the kernels built differ.
    """
    return Cluster(
        name="loudbox",
        rows=2,
        columns=4,
        links_per_neighbour=_LINKS,
        board="n300",
        board_chips=[[chip, chip + 4] for chip in range(4)],
        links=[link for a, b in _CABLES for link in wire(a, b, _LINKS)],
        harvested_rows=0b1,
        host_chips=list(range(4)),
        unique_ids=[1000 + chip for chip in range(8)],
        places=[(chip % 4, chip // 4) for chip in range(8)],
    )
