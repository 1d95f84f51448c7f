"""Checks of chips: the driver, the boards, huge pages, links, and the mesh that is opened once."""

from collections.abc import Iterator, Sequence
from typing import Any

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, MeshSettings
from mochi_aot.artifacts.tiles import device_bytes
from mochi_aot.compiler.lower.ttnn.chip_constants import Machine, machine_of
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.residency import all_weights_fit
from mochi_aot.tools.bringup.watchdog import run_step, step_command
from mochi_aot.tools.commands.text import human_bytes
from mochi_aot.tools.doctor.check import Check, failed, ok, warning
from mochi_aot.tools.doctor.host import Board, Host

_STALL, _LIMIT = 120.0, 180.0  # seconds that the mesh may take to open


def chips(bundle: Bundle, host: Host) -> Iterator[Check]:
    """Tell of driver, boards, links to the host and huge pages, as the kernel's files say."""
    version = host.driver()
    if version is None:
        yield failed(
            "driver", "the kernel module tenstorrent is not loaded", "install tt-kmd, then modprobe tenstorrent"
        )
    else:
        yield ok("driver", version)
    found = host.boards()
    yield boards(bundle, found)
    if found:
        yield pcie(found)
        yield huge_pages(host, found)


def boards(bundle: Bundle, found: Sequence[Board]) -> Check:
    """Tell whether there are as many chips as the bundle's mesh has, of its architecture."""
    rows, columns = bundle.manifest.mesh
    arch, count = settings_of(bundle).arch, sum(board.chips for board in found)
    wanted = f"the bundle is for {rows}x{columns} {arch}"
    if not found:
        advice = "plug them in, or give the container --device /dev/tenstorrent; TT_VISIBLE_DEVICES hides boards"
        return failed("boards", f"none in /dev/tenstorrent; {wanted}", advice)
    kinds = ", ".join(sorted({f"{board.card} ({board.arch})" for board in found}))
    seen = f"{len(found)} of {kinds}, {count} chips; {wanted}"
    closed = [str(board.number) for board in found if not board.usable]
    if closed:
        return failed("boards", f"{seen}; no permission for {', '.join(closed)}", "give this user /dev/tenstorrent/*")
    if any(board.arch not in (arch, "unknown") for board in found):
        return failed("boards", seen, "compile it for these chips (--arch), or use others")
    if count < rows * columns:
        return failed("boards", seen, "compile it for a mesh of these chips, or see tt-smi for boards that are missing")
    return ok("boards", seen)


def pcie(found: Sequence[Board]) -> Check:
    """Tell whether each board has the lanes and the speed that it could have."""
    links = [(board.number, board.link) for board in found if board.link is not None]
    reduced = [f"{number}: x{link.width} {link.speed}" for number, link in links if link.is_reduced]
    if reduced:
        advice = "seat the boards again, or use other slots: weights load more slowly"
        return warning("pcie", f"less than could be: {', '.join(reduced)}", advice)
    kinds = sorted({f"x{link.width} {link.speed}" for _, link in links})
    return ok("pcie", ", ".join(kinds) or "the kernel does not say")


def huge_pages(host: Host, found: Sequence[Board]) -> Check:
    """Tell whether there is a huge page of 1 GiB for each board, which boards behind an IOMMU do without."""
    pages, needing = host.gigabyte_pages(), [board for board in found if not board.iommu]
    said = f"{pages} of 1 GiB for {len(found)} boards, {len(needing)} of them without an IOMMU"
    advice = "set them up as tt-system-tools does (hugepages-1048576kB, mounted at /dev/hugepages-1G)"
    if not needing:
        return ok("hugepages", said)
    if pages == 0 or not host.has_gigabyte_mount():
        return failed("hugepages", said + ("" if pages == 0 else ", and no mount of hugetlbfs for them"), advice)
    return ok("hugepages", said) if pages >= len(needing) else warning("hugepages", said, advice)


def mesh(bundle: Bundle, device: str) -> tuple[Check, dict[str, Any]]:
    """Open the bundle's mesh in a process of its own, as `mochi-bringup` does; return what ttnn says of it, too."""
    result = run_step("mesh", step_command("mesh", bundle.path, device), _STALL, _LIMIT)
    if result.state != "passed":
        doing = f" (in flight: {result.in_flight})" if result.in_flight else ""
        return failed("mesh", f"{result.problem}{doing}", "docs/first-machine.md, known trouble; mochi-bringup"), {}
    return opened(bundle, result.numbers), result.numbers


def opened(bundle: Bundle, numbers: dict[str, Any]) -> Check:
    """Tell whether a mesh is what the bundle is for: its shape, its chips, and links between neighbours."""
    shape, arch, wanted = bundle.manifest.mesh, settings_of(bundle).arch, machine(bundle).links
    links = dict(zip(("rows", "columns"), numbers["links"], strict=True))
    said = f"{'x'.join(map(str, numbers['shape']))} {numbers['arch']}, links {links}"
    if list(numbers["shape"]) != shape or numbers["arch"] != arch:
        return failed("mesh", said, f"the bundle is for {shape[0]}x{shape[1]} {arch}: compile it again")
    used = [count for count, size in zip(numbers["links"], shape, strict=True) if size > 1]
    if 0 in used:
        return failed("mesh", said, "plug in the cables between boards, then tt-topology")
    if any(count < wanted for count in used):
        advice = f"such a machine has {wanted} to each neighbour: see tt-smi for links that are not trained"
        return warning("mesh", said, advice)
    return ok("mesh", said)


def dram(bundle: Bundle, numbers: dict[str, Any]) -> Check:
    """Tell whether a chip's DRAM has what each program needs, by the dry run at compile time where there was one."""
    told = numbers.get("dram_bytes")
    room = int(told or machine(bundle).dram_bytes)
    by = "" if told else " (such chips have)"
    geometries = bundle.manifest.geometries
    needed, largest = max((_needed(bundle, geometry), geometry_name(geometry)) for geometry in geometries)
    said = f"{human_bytes(needed)} of {human_bytes(room)}{by} at most, {largest}"
    if needed > room:
        return failed("dram", said, "compile it for more chips, or with narrower weights (--weights-dtype)")
    if any(geometry.dram_peaks.keys() != geometry.programs.keys() for geometry in geometries):
        return warning(
            "dram",
            f"{said}, weights alone: no dry run measured it",
            "compile it again where ttnn is installed, which measures it",
        )
    resident = all(all_weights_fit(bundle, geometry, room) for geometry in geometries)
    return ok("dram", f"{said}; weights {'stay for the next video' if resident else 'are loaded for each video'}")


def settings_of(bundle: Bundle) -> MeshSettings:
    """Return how a bundle for ttnn opens its mesh."""
    settings = bundle.manifest.mesh_settings
    assert settings is not None, "a bundle for ttnn says how to open its mesh"
    return settings


def machine(bundle: Bundle) -> Machine:
    """Return what a machine of the bundle's mesh has."""
    rows, columns = bundle.manifest.mesh
    return machine_of((rows, columns), settings_of(bundle).arch)


def _needed(bundle: Bundle, geometry: Geometry) -> int:
    """Return the bytes of a chip that the largest program takes: measured, or its weights alone."""
    if geometry.dram_peaks:
        return max(geometry.dram_peaks.values())
    weights = bundle.weights
    sizes = (
        sum(device_bytes(weights[one.name].dtype, weights[one.name].local_shape) for one in program.weights)
        for program in (bundle.program(role, geometry) for role in geometry.programs)
    )
    return round(max(sizes))
