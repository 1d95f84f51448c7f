"""What the kernel's files say of a host and its boards.

Paths and names of attributes are those of Tenstorrent's driver, docs/sysfs-attributes.md of
github.com/tenstorrent/tt-kmd; huge pages and the IOMMU are looked for where its user-mode driver does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mochi_aot.artifacts.machines import BLACKHOLE, WORMHOLE

# PCI device ids: tools/reset.c of tt-kmd.
_ARCHITECTURES = {"0x401e": WORMHOLE, "0xb140": BLACKHOLE}
# Boards behind whose PCI device is another chip, reached by Ethernet. A p300 has a PCI device for each chip.
_TWO_CHIPS = ("n300",)
_GIGABYTE_PAGES = "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
_TRANSLATING = ("DMA", "DMA-FQ")  # kinds of IOMMU groups, by the kernel's iommu_group/type


@dataclass(frozen=True)
class PcieLink:
    """A link as it was negotiated, and the most that both ends can do: lanes, and the speed in the kernel's words."""

    width: str
    speed: str
    most_width: str
    most_speed: str

    @property
    def is_reduced(self) -> bool:
        """Whether fewer lanes or less speed were negotiated than could be."""
        return (self.width, self.speed) != (self.most_width, self.most_speed)


@dataclass(frozen=True)
class Board:
    """A PCI device of Tenstorrent's: its number in /dev/tenstorrent, kind of card, architecture and chips behind it.

    `usable` tells whether this user may open it, `link` how it is attached, `iommu` whether addresses are translated.
    """

    number: int
    card: str
    arch: str
    chips: int
    usable: bool
    link: PcieLink | None
    iommu: bool


@dataclass(frozen=True)
class Host:
    """The host whose files are below `root`, seen by a process with this environment."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def driver(self) -> str | None:
        """Return the version of Tenstorrent's kernel driver; None where it is not loaded."""
        return self.text("sys/module/tenstorrent/version")

    def boards(self) -> list[Board]:
        """Return the boards that have a file in /dev/tenstorrent, by number; TT_VISIBLE_DEVICES leaves some out."""
        chosen = self.environment.get("TT_VISIBLE_DEVICES", "").replace(" ", "")
        seen = set(chosen.split(",")) if chosen else None
        numbers = (path.name for path in (self.root / "dev/tenstorrent").glob("[0-9]*"))
        return [self._board(int(name)) for name in sorted(numbers, key=int) if seen is None or name in seen]

    def gigabyte_pages(self) -> int:
        """Return how many huge pages of 1 GiB are set apart."""
        text = self.text(_GIGABYTE_PAGES) or ""
        return int(text) if text.isdecimal() else 0

    def has_gigabyte_mount(self) -> bool:
        """Whether files in huge pages of 1 GiB can be made: by a mount of hugetlbfs."""
        lines = [line.split() for line in (self.text("proc/mounts") or "").splitlines()]
        return any(len(line) > 3 and line[2] == "hugetlbfs" and "pagesize=1024M" in line[3] for line in lines)

    def text(self, path: str) -> str | None:
        """Return a file's text without white space around it; None where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return None

    def _board(self, number: int) -> Board:
        attributes = f"sys/class/tenstorrent/tenstorrent!{number}"
        names = ("current_link_width", "current_link_speed", "max_link_width", "max_link_speed")
        link = [self.text(f"{attributes}/device/{name}") for name in names]
        card = self.text(f"{attributes}/tt_card_type") or "unknown"
        return Board(
            number=number,
            card=card,
            arch=_ARCHITECTURES.get(self.text(f"{attributes}/device/device") or "", "unknown"),
            chips=2 if card in _TWO_CHIPS else 1,
            usable=os.access(self.root / f"dev/tenstorrent/{number}", os.R_OK | os.W_OK),
            link=PcieLink(*(one or "" for one in link)) if all(link) else None,
            iommu=self.text(f"{attributes}/device/iommu_group/type") in _TRANSLATING,
        )
