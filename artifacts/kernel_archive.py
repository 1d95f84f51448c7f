"""Kernels as one file: an uncompressed tar of what ttnn's kernel cache must hold for it to find them again.

ttnn keeps a kernel in <build key>/kernels/<name>/<hash>/<processor>/. Of that folder the archive leaves out what ttnn
writes again at each use (generated sources, logs, relocated copies). Beside what it built, ttnn notes the files it was
built from, with their hashes; those that lie in the cache itself are generated ones, and are left out of these notes,
since the cache will lie elsewhere.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.regular_file import open_regular

# A processor's folder of a kernel: build key, kernels, name of the kernel, hash, processor; and a file in it.
_MEMBER = re.compile(r"[\w-][\w.-]*/kernels/[\w-][\w.-]*/[\w-][\w.-]*/[\w-][\w.-]*/(\.build_state|[\w-][\w.-]*)")
_BLOCK, _SIZE = 512, slice(124, 136)  # of a tar, and where in a header the size of its file stands
_MAX_NAME, _MAX_LONG, _MAX_FILE = 255, 4096, 64 << 20  # bytes
# What ttnn needs to find a kernel again; it writes the relocated copies again at each use.
EXECUTED = re.compile(r"(?<!\.xip)\.(build_state|o|elf|dephash)$")
_NOTES = ".dephash"


def kernel_folders(cache: Path) -> list[Path]:
    """Return the folders of the kernels in a cache, sorted."""
    return sorted(cache.glob("*/kernels/*/*"))


def build_keys(cache: Path) -> list[str]:
    """Return the names of the folders that ttnn has put kernels into, sorted."""
    return sorted({folder.parents[2].name for folder in kernel_folders(cache)})


def pack_kernels(cache: Path, path: Path) -> None:
    """Write the archive of a cache: the same kernels give the same bytes. OSError if the disk is full."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for source in _members(cache):
            data = source.read_bytes()
            if source.name.endswith(_NOTES):
                data = _notes_elsewhere(data, cache)
            member = tarfile.TarInfo(source.relative_to(cache).as_posix())
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def unpack_kernels(path: Path, cache: Path) -> None:
    """Write the files of an archive into a folder.

    Raise BundleError for an archive that `pack_kernels` has not written, OSError for what cannot be read or written.
    """
    for name, data in read_kernels(path):
        place = cache / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def read_kernels(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and contents of each file of an archive, in the order of their paths.

    Raise BundleError for an archive that `pack_kernels` has not written, OSError for what cannot be read.
    """
    before: list[str] = []
    with open_regular(path) as file:
        for name, data in _read_members(file, path):
            parts = name.split("/")
            if not _MEMBER.fullmatch(name) or max(map(len, parts)) > _MAX_NAME:
                raise BundleError(f"{path}: {name[:200]!r} is not a file of a kernel; compile the bundle again")
            if parts <= before:
                raise _no_archive(path, f"{name[:200]!r} follows {'/'.join(before)[:200]!r}")
            yield name, data
            before = parts


def _read_members(file: BinaryIO, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each file of a tar as `pack_kernels` writes it, and of no other kind of tar.

    What tar has besides (links, sparse files, other extended headers, sizes that are no octal digits) is refused, so
    that what is written is no more than the archive holds. Raise BundleError.
    """
    name = ""  # that an extended header gives to the file after it
    while (header := file.read(_BLOCK)) != bytes(_BLOCK):
        kind, short, size = _parse_header(header, path)
        data = file.read(-(-size // _BLOCK) * _BLOCK)
        if len(data) < size or any(data[size:]):
            raise _no_archive(path, "cut short, or no zeros after a file")
        if kind == tarfile.XHDTYPE and not name:
            name = _long_name(data[:size], path)
        elif kind == tarfile.REGTYPE:
            yield name or short, data[:size]
            name = ""
        else:
            raise _no_archive(path, f"{short[:200]!r} is of the kind {kind!r}")
    if name or file.tell() == _BLOCK:
        raise _no_archive(path, "it ends before a file")


def _parse_header(header: bytes, path: Path) -> tuple[bytes, str, int]:
    """Return kind, name and size that a block says. Raise BundleError for a block that says something else."""
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise _no_archive(path, str(error) or "a block that is no header") from None
    if not re.fullmatch(rb"[0-7]{11}\0", header[_SIZE]) or member.size > (
        _MAX_LONG if member.type != b"0" else _MAX_FILE
    ):
        raise _no_archive(path, f"{member.name[:200]!r} says an impossible size")
    return member.type, member.name, member.size


def _long_name(record: bytes, path: Path) -> str:
    """Return the name in an extended header: its length, a space, path=, the name and a line feed."""
    found = re.fullmatch(rb"([0-9]{1,4}) path=([\w./-]+)\n", record)
    if found is None or int(found[1]) != len(record):
        raise _no_archive(path, "an extended header says something else than a name")
    return found[2].decode()


def _no_archive(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path}: not an archive of kernels ({reason}); copy or compile the bundle again")


def _members(cache: Path) -> Iterator[Path]:
    for folder in kernel_folders(cache):
        for path in sorted(folder.glob("*/*")):
            if path.is_file() and EXECUTED.search(path.name):
                yield path


def _notes_elsewhere(notes: bytes, cache: Path) -> bytes:
    """Return lines of a quoted path, a tab and a hash, without those of files in the cache."""
    inside = f'"{cache}/'.encode()
    return b"".join(line for line in notes.splitlines(keepends=True) if not line.startswith(inside))
