"""The machines that ttsim simulates, with its own numbers of chips, their links and places."""

from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE
from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.mock.cluster import Cluster, wire
from mochi_aot.runtime.ttnn.mock.machines import loudbox

_HARVESTED_ROWS = 0b11  # ttsim's Wormhole has 8 x 8 cores, two of ten rows fused off; its Blackhole all 14 x 10

# What ttsim calls its library for each of these machines.
CONFIGURATIONS = {"chip": "wh", "n300": "wh_x2", "loudbox": "wh_x8", "blackhole": "bh"}


def simulated_machine(mesh: tuple[int, int], settings: MeshSettings | None) -> Cluster:
    """Return the smallest simulated machine with a mesh of (rows, columns) chips; the library must be for that machine.

    Raises BackendError for a mesh that none of them has.
    """
    short, long = sorted(mesh)
    if settings is not None and settings.arch == BLACKHOLE:
        if long == 1:
            return _blackhole_chip()
        problem = f"a mesh of {mesh[0]}x{mesh[1]} Blackhole chips is not simulated"
        raise BackendError(f"{problem}; compile for 1x1, or for Wormhole")
    if long == 1:
        return _chip()
    if (short, long) == (1, 2):
        return _n300()
    if (short == 1 and long <= 8) or (short == 2 and long <= 4):
        return _loudbox()
    rows, columns = mesh
    raise BackendError(
        f"a mesh of {rows}x{columns} chips is not simulated; compile for 1x1, for 1x2 (an n300), or for 2x4 (a LoudBox)"
    )


def _chip() -> Cluster:
    return Cluster(WORMHOLE, "chip", 1, 1, 0, "n150", [[0]], [], _HARVESTED_ROWS, [0], [1000])


def _blackhole_chip() -> Cluster:
    return Cluster(BLACKHOLE, "blackhole", 1, 1, 0, "p150", [[0]], [], 0, [0], [1000])


def _n300() -> Cluster:
    return Cluster(
        arch=WORMHOLE,
        name="n300",
        rows=1,
        columns=2,
        links_per_neighbour=2,
        board="n300",
        board_chips=[[0, 1]],
        links=wire((0, 8), (1, 0), 2),
        harvested=_HARVESTED_ROWS,
        host_chips=[0],
        unique_ids=[1000, 1001],
        places=[(0, 0), (1, 0)],
    )


def _loudbox() -> Cluster:
    """Return the machine of the same cables as the mocked one: chips 4 - 0 - 2 - 6 above 5 - 1 - 3 - 7."""
    mocked = loudbox()
    return Cluster(
        arch=WORMHOLE,
        name="loudbox",
        rows=mocked.rows,
        columns=mocked.columns,
        links_per_neighbour=mocked.links_per_neighbour,
        board=mocked.board,
        board_chips=mocked.board_chips,
        links=mocked.links,
        harvested=_HARVESTED_ROWS,
        host_chips=mocked.host_chips,
        unique_ids=mocked.unique_ids,
        places=[(1, 0), (1, 1), (2, 0), (2, 1), (0, 0), (0, 1), (3, 0), (3, 1)],
    )
