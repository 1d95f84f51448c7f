"""Architectures of chips, and the machines on sale: what people call them, and the mesh of chips that each one is."""

from dataclasses import dataclass

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.artifacts.layout import ARCHITECTURES

WORMHOLE, BLACKHOLE = ARCHITECTURES
# As people call them: as ttnn and bundles do.
_ARCHITECTURES = {"wormhole": WORMHOLE, "blackhole": BLACKHOLE}


class MachineError(MochiError):
    """Neither an architecture nor a machine has this name."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Chips:
    """An architecture, and a machine's mesh (rows, columns) of chips; None where only the architecture was said."""

    arch: str
    mesh: tuple[int, int] | None = None


MACHINES = {
    "n300": Chips(WORMHOLE, (1, 2)),
    "loudbox": Chips(WORMHOLE, (2, 4)),
    "galaxy": Chips(WORMHOLE, (4, 8)),
    "p150": Chips(BLACKHOLE, (1, 1)),
    "p300": Chips(BLACKHOLE, (1, 2)),
    "quietbox2": Chips(BLACKHOLE, (2, 2)),
    "bh-loudbox": Chips(BLACKHOLE, (2, 4)),
    "bh-galaxy": Chips(BLACKHOLE, (4, 8)),
}

NAMES = (*_ARCHITECTURES, *MACHINES)  # in the order in which people are told them


def chips_called(name: str) -> Chips:
    """Return the chips that a name of an architecture or of a machine means. Raise MachineError if it means none."""
    if name in _ARCHITECTURES:
        return Chips(_ARCHITECTURES[name])
    if name in MACHINES:
        return MACHINES[name]
    raise MachineError(f"arch {name!r} is none of {', '.join(NAMES)}")
