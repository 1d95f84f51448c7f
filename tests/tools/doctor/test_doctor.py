"""Each check against hosts made of files, and the command from end to end, in a process without torch for chips."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Kernels
from mochi_aot.runtime import cache
from mochi_aot.tools.commands.doctor import main
from mochi_aot.tools.doctor import examine, machine, software, system
from mochi_aot.tools.doctor.check import Check, Verdict
from mochi_aot.tools.doctor.host import Host
from tests.runtime import toy_bundle
from tests.tools.commands.test_checking_values import written

GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "toy.bundle"
    toy_bundle.write_bundle(path)
    return path


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle for 1x2 Wormhole chips, without kernels, and never run dry."""
    return Bundle.open(written(tmp_path_factory.mktemp("chips"), "add", 1, value=1.0))


def host(root: Path, files: dict[str, str], **environment: str) -> Host:
    """A host with these files below its root."""
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    return Host(root, environment)


def board(number: int, card: str = "n300", device: str = "0x401e", width: str = "16") -> dict[str, str]:
    """Files of a board, as tt-kmd and the kernel's PCI code make them."""
    at = f"sys/class/tenstorrent/tenstorrent!{number}"
    link = {"current_link_width": width, "current_link_speed": "16.0 GT/s PCIe"}
    link |= {"max_link_width": "16", "max_link_speed": "16.0 GT/s PCIe", "device": device}
    files = {f"{at}/device/{name}": text for name, text in link.items()}
    return {f"dev/tenstorrent/{number}": "", f"{at}/tt_card_type": card, **files}


def on_mesh(bundle: Bundle, rows: int, columns: int, **fields: Any) -> Bundle:
    """The bundle as if it were for another mesh."""
    return Bundle(bundle.path, replace(bundle.manifest, mesh=[rows, columns], **fields), bundle.id)


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def iommu_groups(kind: str) -> dict[str, str]:
    return {f"sys/class/tenstorrent/tenstorrent!{number}/device/iommu_group/type": kind for number in range(4)}


PAGES = {
    "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "4",
    "proc/mounts": "hugetlbfs /dev/hugepages-1G hugetlbfs rw,relatime,pagesize=1024M 0 0",
}
LOUDBOX = {"sys/module/tenstorrent/version": "2.9.0", **PAGES}
for one in range(4):
    LOUDBOX |= board(one)


def test_a_loudbox_has_all_that_its_bundle_wants(chips: Bundle, tmp_path: Path) -> None:
    checks = by_name(machine.chips(on_mesh(chips, 2, 4), host(tmp_path, LOUDBOX)))
    assert {name: check.verdict for name, check in checks.items()} == dict.fromkeys(
        ("driver", "boards", "pcie", "hugepages"), Verdict.OK
    )
    assert checks["driver"].found == "2.9.0" and checks["pcie"].found == "x16 16.0 GT/s PCIe"
    assert checks["boards"].found == "4 of n300 (wormhole_b0), 8 chips; the bundle is for 2x4 wormhole_b0"


def test_a_host_without_driver_or_boards(chips: Bundle, tmp_path: Path) -> None:
    checks = by_name(machine.chips(chips, host(tmp_path, {})))
    assert {name: int(check.code) for name, check in checks.items()} == {"driver": 5, "boards": 5}
    assert "none in /dev/tenstorrent" in checks["boards"].found


@pytest.mark.parametrize(
    ("files", "environment", "says"),
    [
        (LOUDBOX | board(0, "p150a", "0xb140"), {}, "p150a (blackhole)"),  # of another architecture
        (board(0) | board(1, "n150"), {}, "2 of n150 (wormhole_b0), n300 (wormhole_b0), 3 chips"),
        (LOUDBOX, {"TT_VISIBLE_DEVICES": "0, 2"}, "2 of n300 (wormhole_b0), 4 chips"),
    ],
)
def test_boards_that_are_not_those_of_the_bundle(
    files: dict[str, str], environment: dict[str, str], says: str, chips: Bundle, tmp_path: Path
) -> None:
    check = machine.boards(on_mesh(chips, 2, 4), host(tmp_path, files, **environment).boards())
    assert check.verdict is Verdict.FAILED and says in check.found


def test_boards_that_this_user_may_not_open(chips: Bundle, tmp_path: Path) -> None:
    seen = [replace(one, usable=one.number != 1) for one in host(tmp_path, LOUDBOX).boards()]
    check = machine.boards(on_mesh(chips, 2, 4), seen)
    assert check.verdict is Verdict.FAILED and check.found.endswith("no permission for 1")


def test_a_board_with_fewer_lanes_than_it_could_have(tmp_path: Path) -> None:
    check = machine.pcie(host(tmp_path, LOUDBOX | board(2, width="8")).boards())
    assert (check.verdict, check.found) == (Verdict.WARNING, "less than could be: 2: x8 16.0 GT/s PCIe")


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        (PAGES, Verdict.OK),
        ({**PAGES, "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "3"}, Verdict.WARNING),
        ({**PAGES, "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0"}, Verdict.FAILED),
        ({**PAGES, "proc/mounts": "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0"}, Verdict.FAILED),
        (iommu_groups("DMA-FQ"), Verdict.OK),
        (iommu_groups("identity"), Verdict.FAILED),
    ],
)
def test_huge_pages(files: dict[str, str], verdict: Verdict, tmp_path: Path) -> None:
    boards = board(0) | board(1) | board(2) | board(3)
    seen = host(tmp_path, boards | files)
    assert machine.huge_pages(seen, seen.boards()).verdict is verdict


@pytest.mark.parametrize(
    ("numbers", "verdict", "says"),
    [
        ({"shape": [2, 4], "arch": "wormhole_b0", "links": [1, 1]}, Verdict.OK, "2x4 wormhole_b0"),
        ({"shape": [2, 4], "arch": "wormhole_b0", "links": [1, 0]}, Verdict.FAILED, "'columns': 0"),
        ({"shape": [1, 4], "arch": "wormhole_b0", "links": [1, 1]}, Verdict.FAILED, "1x4"),
        ({"shape": [2, 4], "arch": "blackhole", "links": [1, 1]}, Verdict.FAILED, "blackhole"),
    ],
)
def test_a_mesh_that_was_opened(
    numbers: dict[str, Any], verdict: Verdict, says: str, chips: Bundle, tmp_path: Path
) -> None:
    check = machine.opened(on_mesh(chips, 2, 4), numbers)
    assert check.verdict is verdict and says in check.found


def test_a_galaxy_with_links_that_are_not_trained(chips: Bundle) -> None:
    numbers = {"shape": [4, 8], "arch": "wormhole_b0", "links": [4, 3]}
    assert machine.opened(on_mesh(chips, 4, 8), numbers).verdict is Verdict.WARNING


@pytest.mark.parametrize(("room", "verdict"), [(12 * 10**9, Verdict.OK), (10 * 10**9, Verdict.FAILED)])
def test_dram_by_what_a_dry_run_took(room: int, verdict: Verdict, chips: Bundle) -> None:
    sized = [replace(one, dram_peaks=dict.fromkeys(one.programs, 11 * 10**9)) for one in chips.manifest.geometries]
    check = machine.dram(on_mesh(chips, 1, 2, geometries=sized), {"dram_bytes": room})
    assert check.verdict is verdict and check.found.startswith(f"11 GB of {room // 10**9} GB at most, 32x64x7")


def test_dram_that_nobody_measured(chips: Bundle) -> None:
    check = machine.dram(chips, {})
    assert check.verdict is Verdict.WARNING and "12.9 GB (such chips have)" in check.found


def test_ttnn_of_another_version(chips: Bundle) -> None:
    check = software.ttnn_package(on_mesh(chips, 1, 2, ttnn="0.80.0"))
    assert check.verdict is Verdict.WARNING and "compiled for 0.80.0" in check.found


def test_kernels_and_sfpi(chips: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This environment has no SFPI: chips then run what the bundle has, and a mocked mesh has the stand-in."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    here = host(tmp_path, {})
    none = by_name(software.kernels(chips, "chips", here))
    assert [int(none[name].code) for name in ("kernels", "sfpi")] == [0, 5]
    made = Kernels(0, 7, True, chips.manifest.ttnn, "stand-in", "/proc/self/fd/1000/ttnn-0.81.1-stand-in", [])
    stand_in = by_name(software.kernels(on_mesh(chips, 1, 2, kernels=made), "chips", here))
    assert "made by the stand-in compiler" in stand_in["kernels"].found and stand_in["sfpi"].verdict is Verdict.FAILED
    mocked = by_name(software.kernels(on_mesh(chips, 1, 2, kernels=made), "mock", here))
    assert {check.verdict for check in mocked.values()} == {Verdict.OK}
    chosen = host(tmp_path, {}, TT_METAL_CACHE="/x")
    assert (
        "TT_METAL_CACHE set"
        in by_name(software.kernels(on_mesh(chips, 1, 2, kernels=made), "chips", chosen))["kernels"].found
    )


def test_home(tmp_path: Path) -> None:
    assert system.home(host(tmp_path, {}, HOME=str(tmp_path))).verdict is Verdict.OK
    for environment in ({}, {"HOME": str(tmp_path / "none")}):
        assert system.home(host(tmp_path, {}, **environment)).verdict is Verdict.WARNING


def test_a_scratch_folder_that_cannot_be_had(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file/cache"))
    check = system.scratch(Bundle.open(toy))
    assert (check.verdict, int(check.code)) == (Verdict.FAILED, 7) and "MOCHI_CACHE" in check.advice


@pytest.mark.parametrize(
    ("flags", "free", "verdict"),
    [(0, GIGABYTE, Verdict.OK), (os.ST_NOEXEC, GIGABYTE, Verdict.FAILED), (0, GIGABYTE // 8, Verdict.FAILED)],
)
def test_a_scratch_folder_for_chips(
    flags: int, free: int, verdict: Verdict, chips: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    seen = os.statvfs(tmp_path)
    fields = list(seen)
    fields[1], fields[4], fields[8] = 4096, free // 4096, flags  # f_frsize, f_bavail, f_flag
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    assert system.scratch(chips).verdict is verdict


def test_a_host_without_tmp(tmp_path: Path) -> None:
    assert int(system.temporary_files(Host(tmp_path / "none", {})).code) == 7
    assert system.temporary_files(host(tmp_path, {"tmp/x": ""})).verdict is Verdict.OK


def test_memory_and_cores(toy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy)
    weights = sum(path.stat().st_size for path in (toy / "weights").iterdir())
    assert system.memory(bundle, weights).verdict is Verdict.OK
    assert system.memory(bundle, weights - 1).verdict is Verdict.WARNING
    half, all_of_it = ({"sys/fs/cgroup/cpu.max": text} for text in ("50000 100000", "max 100000"))
    assert system.cores(host(tmp_path, half)).found.endswith("the control group gives 0.5")
    assert system.cores(host(tmp_path, half)).verdict is Verdict.WARNING
    assert system.cores(host(tmp_path, all_of_it)).verdict is Verdict.OK


def test_a_disk_is_read_in_part(toy: Path, tmp_path: Path) -> None:
    check = system.disk(Bundle.open(toy), most=4096)
    assert check.verdict is Verdict.OK and "B/s" in check.found
    gone = Bundle(tmp_path / "none", Bundle.open(toy).manifest, "0")
    assert int(system.disk(gone).code) == 7


def test_a_gpu(toy: Path, tmp_path: Path) -> None:
    bundle, version = Bundle.open(toy), {"proc/driver/nvidia/version": "NVRM version: 580.1"}
    lacks = examine.examine(bundle, "cuda", host(tmp_path, version), lambda text: None)
    assert [check.name for check in lacks if check.verdict is Verdict.FAILED] == ["gpu"]
    assert examine.exit_code(lacks) == 5
    has = examine.examine(bundle, "cuda", host(tmp_path, {**version, "dev/nvidia0": ""}), lambda text: None)
    assert [check.found for check in has if check.name == "gpu"] == ["nvidia0: NVRM version: 580.1"]


def test_an_ffmpeg_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    assert int(software.ffmpeg().code) == 7
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/echo")  # prints its arguments, and no encoder
    assert "without libx264" in software.ffmpeg().found


def test_a_damaged_tokenizer_and_no_torch(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(toy)
    monkeypatch.setattr(Bundle, "tokenizer", lambda self: b"{}")
    assert int(software.tokenizer(bundle).code) == 3
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: None)
    assert software.torch_package().advice == "pip install 'mochi-aot[torch]'"


def test_the_command_on_a_torch_bundle(toy: Path) -> None:
    result = CliRunner().invoke(main, [str(toy), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["can_run"] and told["bundle"] == Bundle.open(toy).id
    names = "bundle papers home scratch torch memory cores tokenizer ffmpeg disk"
    assert [check["name"] for check in told["checks"]] == names.split()
    assert {check["verdict"] for check in told["checks"]} == {"ok"}


def test_the_command_on_a_host_without_chips(chips: Bundle) -> None:
    """The code is that of the first failure; the mesh is not opened."""
    result = CliRunner().invoke(main, [str(chips.path)])
    assert result.exit_code == 5
    lines = result.stdout.splitlines()
    assert any(line.startswith("boards ") and " failed " in line for line in lines)
    assert any(line.startswith("mesh ") and "not opened, since sfpi, driver, boards failed" in line for line in lines)
    assert "driver: install tt-kmd, then modprobe tenstorrent" in lines


def test_the_command_on_a_mocked_mesh_without_torch(chips: Bundle, tmp_path: Path) -> None:
    """And where nothing that needs torch can be imported: the thin install has none."""
    code = (
        "import sys; sys.modules['torch'] = None; from mochi_aot.tools.commands.doctor import main; main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, str(chips.path), "--device", "mock", "--json"]
    environment = os.environ | {cache.VARIABLE: str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["mesh"]["verdict"] == "ok" and checks["mesh"]["found"].startswith("1x2 wormhole_b0, links ")
    assert checks["dram"]["verdict"] == "warning" and "12.9 GB at most" in checks["dram"]["found"]
