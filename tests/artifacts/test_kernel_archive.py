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


def extended(headers: dict[str, str], record: bytes | None = None, members: int = 1) -> Callable[[Path], None]:
    """An archive of empty files, each with an extended header of these entries, or of this record."""

    def write(path: Path) -> None:
        records = record or b"".join(_record(name, value) for name, value in headers.items())
        header = tarfile.TarInfo("././@PaxHeader")
        header.type, header.size = tarfile.XHDTYPE, len(records)
        before = header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
        path.write_bytes((before + tarfile.TarInfo("x").tobuf()) * members + (b"" if members else before) + bytes(1024))

    return write


def _record(name: str, value: str) -> bytes:
    length = len(f" {name}={value}\n")
    length += len(str(length + len(str(length))))
    return f"{length} {name}={value}\n".encode()


def edited(offset: int, field: bytes) -> Callable[[Path], None]:
    """An archive of one empty file in whose header a field is another, and the checksum right."""

    def write(path: Path) -> None:
        one_member(GOOD)(path)
        data = bytearray(path.read_bytes())
        data[offset : offset + len(field)] = field
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
        path.write_bytes(bytes(data))

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
        (one_member(GOOD, tarfile.SYMTYPE), "is of the kind"),
        (one_member(GOOD, tarfile.LNKTYPE), "is of the kind"),
        (one_member(GOOD, tarfile.DIRTYPE), "is of the kind"),
        (one_member(GOOD, tarfile.FIFOTYPE), "is of the kind"),
        (one_member(GOOD, tarfile.GNUTYPE_SPARSE), "is of the kind b'S'"),
        (one_member(GOOD, tarfile.GNUTYPE_LONGNAME), "is of the kind b'L'"),
        (one_member(GOOD, tarfile.XGLTYPE), "is of the kind b'g'"),
        (one_member("key1/kernels/" + "n" * 256 + "/123/brisc/brisc.elf"), "is not a file of a kernel"),
        (extended({"path": GOOD, "GNU.sparse.size": "999999999999"}), "says something else than a name"),
        (extended({"size": "99999999999999"}), "says something else than a name"),
        (extended({"path": "/etc/passwd"}), "'/etc/passwd' is not a file of a kernel"),
        (extended({"path": GOOD}, b"17 path=a/b/c/d/e\n"), "says something else than a name"),
        (extended({"path": GOOD}, b"9" * 5000), "says an impossible size"),
        (extended({"path": GOOD}, members=0), "ends before a file"),
        (edited(124, b"\x80" + bytes(10) + b"\x01"), "says an impossible size"),
        (edited(124, b"77777777777\0"), "says an impossible size"),
        (edited(124, b"-0000000001\0"), "not an archive of kernels"),
        (edited(0, b"\xff"), "not an archive of kernels"),
        (lambda path: path.write_bytes(bytes(10240)), "ends before a file"),
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


def test_a_file_that_is_in_an_archive_twice(tmp_path: Path) -> None:
    extended({"path": GOOD}, members=2)(tmp_path / "a.tar")
    with pytest.raises(BundleError, match=r"brisc\.elf' follows 'key1/"):
        unpack_kernels(tmp_path / "a.tar", tmp_path / "new")
