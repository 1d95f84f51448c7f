"""Files appear whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mochi_aot.artifacts.atomic_file import replacing


def test_a_finished_file_appears_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with replacing(path) as new:
        new.write_bytes(b"new")
        assert not path.exists() and new.name == path.name
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_any_name_will_do(tmp_path: Path) -> None:
    """The folder beside it has a lock in it."""
    with replacing(tmp_path / "lock") as new:
        new.write_bytes(b"new")
    assert (tmp_path / "lock").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "lock"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_unfinished_file_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as new:
        new.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "out.bin", []

    def fsync(descriptor: int) -> None:
        synced.append((os.pread(descriptor, 9, 0), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(path) as new:
        new.write_bytes(b"new")
    assert synced == [(b"new", False)]


def test_others_may_read_the_file_as_the_umask_has_it(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    before = os.umask(0o027)
    try:
        with replacing(path) as new:
            new.write_bytes(b"new")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_text("kept")
    path.symlink_to(tmp_path / "gone")
    with replacing(path) as new:
        new.symlink_to(target)
    assert path.readlink() == target and path.read_text() == "kept"


def test_threads_may_replace_one_file_at_the_same_time(tmp_path: Path) -> None:
    path, both_write = tmp_path / "out.bin", Barrier(2)

    def write(text: str) -> None:
        with replacing(path) as new:
            new.write_text(text)
            both_write.wait(60)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ["one", "two"]))
    assert path.read_text() in ("one", "two")
    assert list(tmp_path.iterdir()) == [path]
