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

from mochi_aot.artifacts.errors import BundleError

# A processor's folder of a kernel: build key, kernels, name of the kernel, hash, processor; and a file in it.
_MEMBER = re.compile(r"[\w-][\w.-]*/kernels/[\w-][\w.-]*/[\w-][\w.-]*/[\w-][\w.-]*/(\.build_state|[\w-][\w.-]*)")
_KEPT = (".build_state", ".o", ".elf", ".dephash")
_REWRITTEN = ".xip.elf"
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
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not (member.isreg() and not member.issparse() and _MEMBER.fullmatch(member.name)):
                    raise BundleError(f"{path}: {member.name!r} is not a file of a kernel; compile the bundle again")
                stream = archive.extractfile(member)
                assert stream is not None, "a regular file"
                place = cache / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(stream.read())
    except (tarfile.TarError, EOFError) as error:
        raise BundleError(f"{path}: not an archive of kernels ({error}); copy or compile the bundle again") from None


def _members(cache: Path) -> Iterator[Path]:
    for folder in kernel_folders(cache):
        for path in sorted(folder.glob("*/*")):
            if path.is_file() and path.name.endswith(_KEPT) and not path.name.endswith(_REWRITTEN):
                yield path


def _notes_elsewhere(notes: bytes, cache: Path) -> bytes:
    """Return lines of a quoted path, a tab and a hash, without those of files in the cache."""
    inside = f'"{cache}/'.encode()
    return b"".join(line for line in notes.splitlines(keepends=True) if not line.startswith(inside))
