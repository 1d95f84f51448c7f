"""Copies of kernels are kept for as long as a process uses them, and while they are neither too old nor too many."""

import errno
import fcntl
import multiprocessing
import os
import stat
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn import kernel_copies
from mochi_aot.runtime.ttnn.kernel_copies import KEPT_SECONDS, remove_old_copies

NOW = 2_000_000_000.0


@pytest.fixture(autouse=True)
def _let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_copies, "_held", {})


def use_copy(place: Path) -> bool:
    with kernel_copies.use_copy(place) as alone:
        return alone


def let_go() -> None:
    for descriptor in kernel_copies._held.values():
        os.close(descriptor)
    kernel_copies._held.clear()


def copy(folder: Path, name: str, age: float, size: int = 1000) -> Path:
    """One that a process has used, which has ended since; some of its folders are read-only."""
    place = folder / name
    use_copy(place)
    let_go()
    (place / "key").mkdir(parents=True)
    (place / "key/kernel").write_bytes(bytes(size))
    (place / "key").chmod(0o500)
    os.utime(folder / f"{name}.used", (NOW - age, NOW - age))
    return place


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_old_ones_go(tmp_path: Path) -> None:
    copy(tmp_path, "new", KEPT_SECONDS - 1)
    copy(tmp_path, "old", KEPT_SECONDS + 1)
    (tmp_path / "of an older version").mkdir()
    remove_old_copies(tmp_path, NOW)
    assert left(tmp_path) == ["new", "new.used", "of an older version"]


def test_the_longest_unused_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_copies, "KEPT_BYTES", 2500)
    for name, age in (("b", 20.0), ("d", 40.0), ("a", 10.0), ("c", 30.0)):
        copy(tmp_path, name, age)
    remove_old_copies(tmp_path, NOW)
    assert left(tmp_path) == ["a", "a.used", "b", "b.used"]


def test_threads_use_a_copy_one_after_the_other(tmp_path: Path) -> None:
    """A lock of a file is the process's. Two threads once had one each, and the first lost its own to the second."""
    place = tmp_path / "a"
    second = threading.Thread(target=use_copy, args=(place,))
    with kernel_copies.use_copy(place):
        second.start()
        second.join(0.2)
        assert second.is_alive()
    second.join()
    assert list(kernel_copies._held) == [place]


def _use(place: Path, told: Connection) -> None:
    use_copy(place)
    told.send(None)
    told.recv()


def test_what_a_process_uses_stays(tmp_path: Path) -> None:
    """Of two too; and the use is its time from now on."""
    place = copy(tmp_path, "used", 2 * KEPT_SECONDS)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_use, args=(place, theirs))
    process.start()
    ours.recv()
    assert (tmp_path / "used.used").stat().st_mtime > NOW - 1e9
    os.utime(tmp_path / "used.used", (1, 1))
    assert not use_copy(place)
    let_go()
    os.utime(tmp_path / "used.used", (1, 1))
    remove_old_copies(tmp_path, NOW)
    assert left(tmp_path) == ["used", "used.used"]
    process.kill()
    process.join()
    remove_old_copies(tmp_path, NOW)
    assert left(tmp_path) == []


def _use_a_while(place: Path, told: Connection) -> None:
    kernel_copies._held.clear()
    with kernel_copies.use_copy(place) as alone:
        told.send(alone)
        told.recv()


def test_who_checks_a_copy_alone_is_waited_for(tmp_path: Path) -> None:
    """So nobody removes what another process is about to build, and two do not mend the same file."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_use_a_while, args=(tmp_path / "a", theirs))
    with kernel_copies.use_copy(tmp_path / "a") as alone:
        process.start()
        assert alone and not ours.poll(0.2)
    assert ours.recv() is False
    with kernel_copies.use_copy(tmp_path / "a") as alone:  # again, by the same process, which has its lock still
        assert not alone
    ours.send(None)
    process.join()
    with kernel_copies.use_copy(tmp_path / "a") as alone:
        assert alone


def test_without_locks_nobody_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not use_copy(tmp_path / "a")


def test_a_copy_that_was_removed_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, lock = copy(tmp_path, "a", 0.0), fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_old_copies(tmp_path, NOW + 2 * KEPT_SECONDS)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert use_copy(place)
    assert left(tmp_path) == ["a.used"]
    assert os.path.samestat(os.fstat(kernel_copies._held[place]), (tmp_path / "a.used").stat())


def test_no_planted_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "a.used").symlink_to(tmp_path / "mine")
    before = (tmp_path / "mine").stat()
    with pytest.raises(OSError, match="symbolic links"):
        use_copy(tmp_path / "a")
    assert (tmp_path / "mine").stat().st_mtime == before.st_mtime
    assert stat.S_ISLNK((tmp_path / "a.used").lstat().st_mode)
