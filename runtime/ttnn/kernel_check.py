"""Checks the unpacked kernels of a bundle each time they are used: they are executed, and disks and users change files.

What came from the archive is compared with it, byte by byte, and written again where it differs. What ttnn has built
there itself is known by its hash, which is noted when the mesh is closed: what differs from its note, or has none since
a process was killed, is removed, and ttnn builds it again. Where another process uses the copy, and so may be building
now, what has no note yet is left alone.
"""

import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.kernel_archive import EXECUTED, read_kernels
from mochi_aot.artifacts.regular_file import read_regular

_LOGGER = logging.getLogger("mochi_aot")
_NOTES = "BUILT-HERE"  # lies in a copy: a hash, a space and the path for each file that ttnn has built
_PCH = ".gch"  # headers, compiled by ttnn for further kernels
_MAX_FILE = 64 << 20  # bytes, as in an archive


class KernelCopy:
    """An unpacked archive of kernels to which ttnn adds what it builds."""

    def __init__(self, place: Path, archive: Path, alone: bool) -> None:
        """Check the copy at `place` against the archive, and make good what is wrong.

        `alone` says that no other process uses the copy, see kernel_copies.py. What was wrong is told as a warning.
        Raise OSError, and BundleError for an archive that is none.
        """
        self.place = place
        notes = _read_notes(place / _NOTES)
        self._archived: set[str] = set()
        wrong = 0
        for name, data in read_kernels(archive):
            self._archived.add(name)
            if _read(f"{place}/{name}", len(data)) != data:
                _mend(place / name, data)
                wrong += 1
        for name in list(self._built_here()):
            if _hash(f"{place}/{name}") != notes[name] if name in notes else alone:
                self._remove(place / name)
                wrong += 1
        if wrong:
            _LOGGER.warning("%d files of kernels in %s were not as they had been written: made again", wrong, place)

    def note(self) -> None:
        """Note what ttnn has built: it will be used again as long as it is like this. Raise OSError."""
        found = sorted((name, _hash(f"{self.place}/{name}")) for name in self._built_here())
        text = "".join(f"{digest} {name}\n" for name, digest in found)
        if found or (self.place / _NOTES).exists():
            with replacing(self.place / _NOTES) as new:
                new.write_text(text)

    def _built_here(self) -> Iterator[str]:
        """Yield the paths in the copy of files that ttnn uses as they are and that are not from the archive."""
        start = len(str(self.place)) + 1
        for folder, _, files in os.walk(self.place):
            for file in files:
                name = f"{folder}/{file}"[start:]
                if name not in self._archived and (file.endswith(_PCH) or EXECUTED.search(file) is not None):
                    yield name

    def _remove(self, path: Path) -> None:
        """Remove a file, and what was built with it: ttnn looks whether a kernel's folder says it is complete."""
        state = path.with_name(".build_state")
        for one in (state, path):
            if one.relative_to(self.place).as_posix() not in self._archived:
                shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)


def _mend(path: Path, data: bytes) -> None:
    """Write a file in the place of whatever is there. Raise OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write_bytes(data)


def _read(path: str, size: int) -> bytes | None:
    """Return the contents of a file, if it is one of at most this size, and no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode) or seen.st_size > size:
                return None
            return os.read(descriptor, seen.st_size + 1)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _hash(path: str) -> str:
    """Return the hash of a file; an empty string for what cannot be read, which no note says."""
    data = _read(path, _MAX_FILE)
    return "" if data is None else hash_bytes(data)


def _read_notes(path: Path) -> dict[str, str]:
    """Return the hashes by path; of damaged notes what can be read: no file has the hash of a damaged line."""
    try:
        lines = read_regular(path).decode(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {name: digest for digest, _, name in pairs}
