"""Kernels as one file, and archives that are none."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.kernel_archive import build_keys, kernel_folders, pack_kernels, unpack_kernels
from tests.artifacts.samples import write_cache


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_what_ttnn_needs_comes_back_and_nothing_else(tmp_path: Path) -> None:
    needed = write_cache(tmp_path / "cache")
    pack_kernels(tmp_path / "cache", tmp_path / "a.tar")
    unpack_kernels(tmp_path / "a.tar", tmp_path / "new")
    assert list(files(tmp_path / "new")) == sorted(needed)
    before = files(tmp_path / "cache")
    for name, data in files(tmp_path / "new").items():
        assert data == (b'"/headers/a.h"\t1\n' if name.endswith(".dephash") else before[name])
    assert kernel_folders(tmp_path / "new") == [tmp_path / "new/key1/kernels/reader/123"]
    assert build_keys(tmp_path / "new") == ["key1"]


def test_caches_at_two_places_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cache(tmp_path / name / "cache")
        pack_kernels(tmp_path / name / "cache", tmp_path / f"{name}.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_long_name_is_kept_whole(tmp_path: Path) -> None:
    folder = tmp_path / "cache/key1/kernels" / ("reader_" * 30) / "123/brisc"
    folder.mkdir(parents=True)
    (folder / "brisc.elf").write_bytes(b"elf")
    pack_kernels(tmp_path / "cache", tmp_path / "a.tar")
    unpack_kernels(tmp_path / "a.tar", tmp_path / "new")
    assert files(tmp_path / "new") == files(tmp_path / "cache")


def one_member(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc"
        with tarfile.open(path, "w") as archive:
            archive.addfile(member, io.BytesIO())

    return write


GOOD = "key1/kernels/reader/123/brisc/brisc.elf"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (one_member("/" + GOOD), "is not a file of a kernel"),
        (one_member("../" + GOOD), "is not a file of a kernel"),
        (one_member("key1/kernels/reader/../brisc/brisc.elf"), "is not a file of a kernel"),
        (one_member("key1/kernels/reader/123/brisc/.."), "is not a file of a kernel"),
        (one_member("STAND-IN"), "is not a file of a kernel"),
        (one_member(GOOD, tarfile.SYMTYPE), "is not a file of a kernel"),
        (one_member(GOOD, tarfile.LNKTYPE), "is not a file of a kernel"),
        (one_member(GOOD, tarfile.DIRTYPE), "is not a file of a kernel"),
        (one_member(GOOD, tarfile.FIFOTYPE), "is not a file of a kernel"),
        (lambda path: path.write_bytes(b"no tar" * 1000), "not an archive of kernels"),
        (lambda path: path.write_bytes(b""), "not an archive of kernels"),
    ],
)
def test_an_archive_that_is_none(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "a.tar")
    with pytest.raises(BundleError, match=message):
        unpack_kernels(tmp_path / "a.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_archive_cut_short(tmp_path: Path) -> None:
    write_cache(tmp_path / "cache")
    pack_kernels(tmp_path / "cache", tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:700])
    with pytest.raises(BundleError, match="not an archive of kernels"):
        unpack_kernels(tmp_path / "a.tar", tmp_path / "new")
