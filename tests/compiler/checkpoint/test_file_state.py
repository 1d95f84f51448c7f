import os
from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.file_state import FileState


def test_it_is_what_the_system_says(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    status = path.stat()
    expected = FileState(5, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    assert FileState.of(path) == expected
    with path.open("rb") as file:
        assert FileState.of(file.fileno()) == expected
    with pytest.raises(FileNotFoundError):
        FileState.of(tmp_path / "gone")


def test_each_part_counts(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    before = FileState.of(path)
    os.utime(path, ns=(0, before.mtime_ns + 1))
    assert FileState.of(path) != before
    path.write_bytes(b"12")
    assert FileState.of(path).nbytes == 2


def test_a_file_is_settled_a_second_after_its_last_change() -> None:
    second = 1_000_000_000
    assert FileState(0, 0, 5 * second, 3 * second).settled(6 * second + 1)
    assert not FileState(0, 0, 5 * second, 3 * second).settled(6 * second)
    assert not FileState(0, 0, 3 * second, 5 * second).settled(6 * second)
