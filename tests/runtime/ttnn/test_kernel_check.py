"""Unpacked kernels are checked at each use: any damage is made good, and what ttnn has built there stays if noted."""

import multiprocessing
import os
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mochi_aot.artifacts.kernel_archive import pack_kernels, unpack_kernels
from mochi_aot.runtime.ttnn import kernel_copies
from mochi_aot.runtime.ttnn.kernel_check import KernelCopy
from mochi_aot.runtime.ttnn.kernel_copies import use_copy
from tests.artifacts import samples

KERNEL = Path("key1/kernels/reader/123/brisc")
OWN = Path("key1/kernels/writer/7/ncrisc")  # as ttnn would build it beside the bundle's


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one kernel, of four files."""
    monkeypatch.setattr(kernel_copies, "_held", {})
    samples.write_cache(tmp_path / "built")
    pack_kernels(tmp_path / "built", tmp_path / "a.tar")
    return tmp_path / "a.tar"


@pytest.fixture
def place(archive: Path, tmp_path: Path) -> Path:
    unpack_kernels(archive, tmp_path / "copy")
    return tmp_path / "copy"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build_own(place: Path) -> None:
    (place / OWN).mkdir(parents=True)
    for name in (".build_state", "ncrisc.elf", "ncrisc.o", "ncrisc.elf.xip.elf"):
        (place / OWN / name).write_bytes(name.encode())


def end_process() -> None:
    for descriptor in kernel_copies._held.values():
        os.close(descriptor)
    kernel_copies._held.clear()


def check(place: Path, archive: Path) -> KernelCopy:
    with use_copy(place) as alone:
        return KernelCopy(place, archive, alone)


def use_until_told(place: Path, told: Connection) -> None:
    kernel_copies._held.clear()  # its parent's
    with use_copy(place):
        pass
    told.send(None)
    told.recv()


def test_what_is_whole_is_left_as_it_is(archive: Path, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    check(place, archive).note()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert caplog.messages == []


def test_any_flipped_bit_of_the_bundles_is_made_good(
    archive: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, chance = contents(place), random.Random(1)
    names = sorted(name for name, data in whole.items() if data)
    for _ in range(100):
        name = chance.choice(names)
        data = bytearray(whole[name])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (place / name).write_bytes(data)
        caplog.clear()
        check(place, archive)
        assert contents(place) == whole
        assert caplog.messages == [f"1 files of kernels in {place} were not as they had been written: made again"]


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_by_growing(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def damage_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def damage_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damage_by_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, damage_by_cutting, damage_by_growing, damage_by_a_link, damage_by_a_folder, damage_by_a_fifo],
)
def test_other_damage_is_made_good(archive: Path, place: Path, damage) -> None:
    whole = contents(place)
    damage(place / KERNEL / "brisc.elf")
    check(place, archive)
    (place / KERNEL / "elsewhere").unlink(missing_ok=True)
    assert contents(place) == whole
    assert not (place / KERNEL / "brisc.elf").is_symlink()


def test_what_ttnn_has_built_stays_once_it_was_noted(
    archive: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = check(place, archive)
    build_own(place)
    copy.note()
    end_process()
    before = contents(place)
    assert len(before["BUILT-HERE"].splitlines()) == 3  # all but the relocated copy
    check(place, archive)
    assert contents(place) == before
    assert caplog.messages == []


@pytest.mark.parametrize("name", [".build_state", "ncrisc.elf", "ncrisc.o"])
def test_what_ttnn_has_built_and_has_changed_is_built_again(archive: Path, place: Path, name: str) -> None:
    """ttnn builds a kernel again whose folder has no .build_state."""
    copy = check(place, archive)
    build_own(place)
    copy.note()
    end_process()
    data = bytearray((place / OWN / name).read_bytes())
    data[0] ^= 1
    (place / OWN / name).write_bytes(data)
    check(place, archive)
    assert not (place / OWN / name).exists() and not (place / OWN / ".build_state").exists()


def test_damaged_notes_vouch_for_nothing(archive: Path, place: Path) -> None:
    copy = check(place, archive)
    build_own(place)
    copy.note()
    end_process()
    (place / "BUILT-HERE").write_bytes(bytes(byte ^ 0xFF for byte in (place / "BUILT-HERE").read_bytes()))
    check(place, archive)
    assert sorted(path.name for path in (place / OWN).iterdir()) == ["ncrisc.elf.xip.elf"]


def test_what_a_killed_process_has_left_goes_and_what_a_living_one_builds_stays(archive: Path, place: Path) -> None:
    build_own(place)
    before = contents(place)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=use_until_told, args=(place, theirs))
    process.start()
    ours.recv()
    check(place, archive)
    assert contents(place) == before
    process.kill()
    process.join()
    end_process()
    check(place, archive)
    assert not (place / OWN / ".build_state").exists() and not (place / OWN / "ncrisc.elf").exists()
