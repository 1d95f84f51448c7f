"""The constants of the model of seconds: what a Wormhole chip and its links do in a second, each with its source.

Nothing here was measured on a chip. `seconds.py` says how the constants are used, and
docs/benchmarks.md what comes out.
"""

from dataclasses import dataclass
from enum import StrEnum

from mochi_aot.compiler.partition.mesh import Mesh


class Origin(StrEnum):
    """Where a constant is from."""

    PUBLISHED = "published"  # a data sheet of Tenstorrent's
    ESTIMATED = "estimated"  # taken over from an estimate of the denoising step that gives no source for each figure
    FITTED = "fitted"  # chosen here, so that sums agree with that estimate or with TT-DiT's seconds
    MEASURED = "measured"  # here, on the host with a mocked mesh
    ASSUMED = "assumed"  # an order of magnitude that no figure stands behind


@dataclass(frozen=True)
class Constant:
    """A number with its unit; `meaning` says of what."""

    value: float
    unit: str
    origin: Origin
    meaning: str


def _published(value: float, unit: str, meaning: str) -> Constant:
    return Constant(value, unit, Origin.PUBLISHED, meaning)


def _estimated(value: float, unit: str, meaning: str) -> Constant:
    return Constant(value, unit, Origin.ESTIMATED, meaning)


def _fitted(value: float, unit: str, meaning: str) -> Constant:
    return Constant(value, unit, Origin.FITTED, meaning)


def _assumed(value: float, unit: str, meaning: str) -> Constant:
    return Constant(value, unit, Origin.ASSUMED, meaning)


CLOCK = _published(1e9, "1/s", "cycles of a core")
CORE_FLOP = _published(2048, "FLOP", "of a core in a cycle, HiFi2; half of it in HiFi4")
PRODUCT_LONG = _estimated(0.52, "of the cores' rate", "matrix product with at least 2048 inputs")
PRODUCT_MIDDLE = _estimated(0.47, "of the cores' rate", "matrix product with at least 1024 inputs")
PRODUCT_SHORT = _estimated(0.42, "of the cores' rate", "matrix product with fewer inputs")
CHUNK_START = _estimated(9e-6, "s", "attention, a chunk of queries by a chunk of keys: what does not grow with them")
CHUNK_WORK = _estimated(28.6e-6, "s", "attention, 256 queries by 256 keys of 128 numbers")
CONVOLUTION = _fitted(0.03, "of the cores' rate", "conv3d: 55 s / DEVICE_FACTOR, as TT-DiT's tests have it on 2x4")

DRAM = _published(288e9, "B/s", "DRAM of a chip")
DRAM_BINARY = _estimated(0.51, "of DRAM's rate", "elementwise ops, type casts, lookups")
DRAM_ADDCMUL = _estimated(0.81, "of DRAM's rate", "addcmul")
DRAM_NORM = _estimated(0.60, "of DRAM's rate", "norms, reductions, softmax, rotation, splitting and joining heads")
DRAM_SPARE = _assumed(0.03, "of DRAM", "left free, since memory is given out in pieces: as runtime/residency.py has it")
DRAM_MOVE = _fitted(0.43, "of DRAM's rate", "other moves and changes of layout: by the estimate's sum")
ROW = _fitted(19e-9, "s", "a row that a row-major reshape or permute moves, all cores: likewise")

LINK = _estimated(9.6e9, "B/s", "one Ethernet link, one way")
SCATTER_WIDE = _estimated(1.85, "times the bytes' time", "reduce-scatter over four links")
GATHER_WIDE = _estimated(1.33, "times the bytes' time", "all-gather over four links")
COLLECTIVE = _assumed(20e-6, "s", "start of a collective")

TRACED = _estimated(6e-6, "s", "start of an op in a recorded program")
UNTRACED = Constant(40e-6, "s", Origin.MEASURED, "host's time for an op that it starts, on a mocked 4x8 mesh")
TRACE_BYTES = _estimated(13_000, "B", "commands of an op in a recorded program")

DEVICE_FACTOR = _estimated(1.51, "times the model", "a real machine, by TT-DiT's published 1260 and 391 s")
THEIR_HOST = _estimated(1.25, "s", "host's work in each of TT-DiT's forwards, by the same")

# All of them by name.
CONSTANTS = {name.lower(): constant for name, constant in list(globals().items()) if isinstance(constant, Constant)}


@dataclass(frozen=True)
class Machine:
    """What a machine's chips have: cores in `grid` (columns, rows), Ethernet `links` to each neighbour, and DRAM.

    All are what ttnn tells on a mock of the machine.
    """

    name: str
    grid: tuple[int, int]
    links: int
    dram_banks: int = 12
    dram_bytes: int = 12_872_318_208

    @property
    def cores(self) -> int:
        """Cores of a chip."""
        columns, rows = self.grid
        return columns * rows

    @property
    def ring_cores(self) -> int:
        """Cores that compute in ring attention, whose last row of cores sends and receives."""
        columns, rows = self.grid
        return columns * (rows - 1)


LOUDBOX = Machine("LoudBox, QuietBox or n300", (8, 8), 1)
GALAXY = Machine("Galaxy", (8, 9), 4)


def machine_of(mesh: Mesh) -> Machine:
    """Return the smaller machine that has as many chips as the mesh, or the larger one."""
    rows, columns = mesh
    return LOUDBOX if rows * columns <= 8 else GALAXY
