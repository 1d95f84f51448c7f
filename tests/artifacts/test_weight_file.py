import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mochi_aot.artifacts import weight_file
from mochi_aot.artifacts.layout import align
from mochi_aot.artifacts.weight_file import BUFFER_BYTES, DIRECT_WRITE_BYTES, WeightFile


def on_a_page(size: int, value: int) -> memoryview:
    """Bytes as a compile hands them over, at the start of a page of memory."""
    memory = np.empty(size + 4096, np.uint8)
    start = -memory.ctypes.data % 4096
    memory[start : start + size] = value
    return memoryview(memory[start : start + size]).cast("B")


def laid_out(pieces: list[memoryview]) -> bytes:
    """The definition: each piece at the next page, zeros between."""
    data = b""
    for piece in pieces:
        data += bytes(align(len(data)) - len(data)) + piece.tobytes()
    return data


def test_shards_lie_on_pages_with_zeros_between(tmp_path: Path) -> None:
    file = WeightFile(tmp_path / "f")
    assert file.append(memoryview(b"a" * 5)) == 0
    assert file.append(memoryview(b"b" * 4096)) == 4096
    assert file.append(memoryview(b"c")) == 8192
    file.finish()
    assert file.nbytes == 8193
    assert (tmp_path / "f").read_bytes() == b"a" * 5 + bytes(4091) + b"b" * 4096 + b"c"


SIZES = st.sampled_from(
    [
        1,
        4096,
        5000,
        DIRECT_WRITE_BYTES - 1,
        DIRECT_WRITE_BYTES,
        DIRECT_WRITE_BYTES + 5,
        BUFFER_BYTES,
        BUFFER_BYTES + 4097,
    ]
)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=6), direct=st.booleans())
def test_every_way_of_writing_gives_the_same_bytes(
    sizes: list[tuple[int, bool]], direct: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Small and large, on a page of memory or not, past the page cache or where the file system has no such thing."""
    path = tmp_path_factory.mktemp("weights") / "f"
    pieces = []
    for index, (size, paged) in enumerate(sizes):
        piece = on_a_page(size + 1, index + 1)
        pieces.append(piece[:size] if paged else piece[1:])
    create = weight_file._create
    with pytest.MonkeyPatch.context() as patch:
        if not direct:
            patch.setattr(weight_file, "_create", lambda path: weight_file._set_buffered(d := create(path)) or d)
        file = WeightFile(path)
        for piece in pieces:
            file.append(piece)
        file.finish()
    assert path.read_bytes() == laid_out(pieces)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:4096], offset))
    file = WeightFile(tmp_path / "f")
    data = on_a_page(DIRECT_WRITE_BYTES + 3, 5)
    file.append(data)
    file.finish()
    assert (tmp_path / "f").read_bytes() == data.tobytes()


def test_a_file_system_that_refuses_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some when the file is opened, some when it is written."""
    system_open, system_pwrite = os.open, os.pwrite

    def refuse_open(path: Path, flags: int, mode: int = 0) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return system_open(path, flags, mode)

    def refuse_write(file: int, data: memoryview, offset: int) -> int:
        if weight_file._is_direct(file):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return system_pwrite(file, data, offset)

    for name, (call, refusal) in {"a": ("open", refuse_open), "b": ("pwrite", refuse_write)}.items():
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refusal)
            file = WeightFile(tmp_path / name)
            file.append(memoryview(b"abc"))
            file.finish()
        assert (tmp_path / name).read_bytes() == b"abc"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A finished file of three shards: b"a" at 0, b"b" at 4096, b"c" at 8192."""
    file = WeightFile(tmp_path / "old")
    for data in (b"a", b"b", b"c"):
        file.append(memoryview(data))
    file.finish()
    return tmp_path / "old"


def test_a_file_adopted_whole_is_a_link(old: Path, tmp_path: Path) -> None:
    file = WeightFile(tmp_path / "new")
    assert [file.adopt(old, offset, 1) for offset in (0, 4096, 8192)] == [0, 4096, 8192]
    file.finish()
    assert (tmp_path / "new").samefile(old) and file.nbytes == 8193


def test_without_links_it_is_a_copy(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    file = WeightFile(tmp_path / "new")
    for offset in (0, 4096, 8192):
        file.adopt(old, offset, 1)
    file.finish()
    assert not (tmp_path / "new").samefile(old) and (tmp_path / "new").read_bytes() == old.read_bytes()


@pytest.mark.parametrize("last", ["none", "new", "moved", "first"])
def test_a_file_adopted_in_part_is_a_copy(old: Path, tmp_path: Path, last: str) -> None:
    """The old file, which may be a bundle's, stays as it is."""
    before, file = old.read_bytes(), WeightFile(tmp_path / "new")
    page = {name: name.encode() + bytes(4095) for name in "abcn"}
    if last == "first":
        file.append(memoryview(b"n"))
        assert file.adopt(old, 4096, 1) == 4096
        expected = page["n"] + b"b"
    else:
        file.adopt(old, 0, 1)
        expected = b"a"
    if last == "new":
        assert file.append(memoryview(b"n")) == 4096
        expected = page["a"] + b"n"
    if last == "moved":
        assert file.adopt(old, 8192, 1) == 4096
        assert file.adopt(old, 4096, 1) == 8192
        expected = page["a"] + page["c"] + b"b"
    file.finish()
    assert (tmp_path / "new").read_bytes() == expected
    assert not (tmp_path / "new").samefile(old) and old.read_bytes() == before


def test_an_unwritable_place_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a file")
    file = WeightFile(tmp_path / "f")
    file.append(memoryview(b"a"))
    with pytest.raises(FileExistsError):
        file.finish()
