"""Paths to what is no file: nothing waits for a FIFO's writer, or reads a device without end."""

import os
import socket
from pathlib import Path

import pytest

from mochi_aot.artifacts.errors import ExitCode, NotAFileError, exit_code
from mochi_aot.artifacts.regular_file import open_regular, read_regular


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 4) == read_regular(tmp_path / "link", 9) == b"data"
    with open_regular(tmp_path / "file") as file:
        assert not os.get_inheritable(file.fileno())
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


def test_a_file_past_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(NotAFileError, match="it has more than 3 bytes"):
        read_regular(tmp_path / "file", 3)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """The FIFO has no writer: opening it as a file would wait for ever. A file without end would fill the memory."""
    os.mkfifo(tmp_path / "fifo")
    place = socket.socket(socket.AF_UNIX)
    place.bind(str(tmp_path / "socket"))
    kinds = {
        tmp_path / "fifo": "a FIFO",
        tmp_path: "a folder",
        Path("/dev/zero"): "a device",
        tmp_path / "socket": "a socket",
    }
    before = os.listdir("/proc/self/fd")
    for path, kind in kinds.items():
        with pytest.raises(NotAFileError, match=f"it is {kind}, expected a file") as error:
            open_regular(path)
        assert exit_code(error.value) is ExitCode.INPUT
    assert os.listdir("/proc/self/fd") == before
    place.close()
