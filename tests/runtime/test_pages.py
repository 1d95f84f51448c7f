"""Pages of mapped files."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mochi_aot.runtime import pages
from mochi_aot.tools.benchmarks.file_cache import cached_bytes, evict

SIZE = 3 * mmap.PAGESIZE + 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


def mapped(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def test_reading_in_what_is_not_resident(file: Path) -> None:
    try:
        evict([file])
    except Exception:  # noqa: BLE001
        pytest.skip("the temporary folder is in memory")
    assert cached_bytes([file]) == 0
    before = pages.bytes_from_disk()
    pages.read_in(mapped(file), file, 0)
    assert cached_bytes([file]) == SIZE
    assert pages.bytes_from_disk() - before >= SIZE


def test_what_comes_from_the_disk_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "Path", lambda name: Path("/nowhere"))
    assert pages.bytes_from_disk() == 0


def test_a_kernel_without_the_advice_reads_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_POPULATE_READ", 12345)
    pages.read_in(mapped(file), file, 0)


def test_a_file_that_was_cut_is_an_error_not_a_signal(file: Path) -> None:
    view = mapped(file)
    os.truncate(file, mmap.PAGESIZE)
    with pytest.raises(OSError, match=f"it ends before byte {SIZE}, within a weight"):
        pages.read_in(view, file, 0)
    pages.read_in(view[: mmap.PAGESIZE], file, 0)


def test_what_is_forgotten_can_be_touched_again(file: Path) -> None:
    view, data = mapped(file), file.read_bytes()
    assert view == data
    pages.forget(view)
    assert view == data


def test_a_kernel_without_cold_or_huge_pages(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_COLD", 12345)
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)
    view = mapped(file)
    pages.read_in(view, file, 0)
    pages.forget(view)
    assert view == file.read_bytes()
