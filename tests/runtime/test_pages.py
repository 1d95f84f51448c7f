"""Pages of mapped files."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mochi_aot.runtime import pages
from mochi_aot.tools.file_cache import cached_bytes, evict

SIZE = 3 * mmap.PAGESIZE + 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


def mapped(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def test_what_was_just_written_is_resident(file: Path) -> None:
    view = mapped(file)
    assert pages.resident_bytes(view) == SIZE
    assert pages.resident_bytes(view[: mmap.PAGESIZE]) == mmap.PAGESIZE


def test_reading_in_what_is_not_resident(file: Path) -> None:
    try:
        evict([file])
    except Exception:  # noqa: BLE001
        pytest.skip("the temporary folder is in memory")
    view = mapped(file)
    assert pages.resident_bytes(view) == 0
    pages.read_in(view, file, 0)
    assert pages.resident_bytes(view) == SIZE == cached_bytes([file])


def test_a_kernel_without_the_advice_reads_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_POPULATE_READ", 12345)
    pages.read_in(mapped(file), file, 0)


def test_a_file_that_was_cut_is_an_error_not_a_signal(file: Path) -> None:
    view = mapped(file)
    os.truncate(file, mmap.PAGESIZE)
    with pytest.raises(OSError, match=f"it ends before byte {SIZE}, within a weight"):
        pages.read_in(view, file, 0)
    pages.read_in(view[: mmap.PAGESIZE], file, 0)


def test_a_large_view_is_read_by_two_threads(tmp_path: Path) -> None:
    path, size = tmp_path / "large", 5 << 20
    path.write_bytes(bytes(size))
    view = mapped(path)
    pages.read_in(view, path, 0)
    assert pages.resident_bytes(view) == size
    os.truncate(path, size - 1)  # in the second half; a page that is there in part can be mapped
    pages.read_in(view, path, 0)
    os.truncate(path, 4 << 20)
    with pytest.raises(OSError, match="it ends before byte 5242880, within a weight"):
        pages.read_in(view, path, 0)


def test_what_is_forgotten_can_be_touched_again(file: Path) -> None:
    view, data = mapped(file), file.read_bytes()
    assert view == data
    pages.forget(view)
    assert view == data
