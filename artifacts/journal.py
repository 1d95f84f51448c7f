"""What a compile has finished so far, one line a weight, in the folder that it writes; locked while it lives."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reusable import ReusableWeight, StoredBytes

NAME = "journal"


class Journal:
    """Appends lines. The lock goes when the process does, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / NAME).open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.empty = True

    def add(self, made: ReusableWeight) -> None:
        """Note a weight whose parts lie in the folder."""
        parts = [
            [str(part.place.relative_to(self._folder)), part.offset, part.nbytes, part.sha256] for part in made.parts
        ]
        fields = [made.source, made.name, made.dtype, made.local_shape, parts, made.devices]
        self._file.write(json.dumps(fields).encode() + b"\n")
        self.empty = False

    def remove(self) -> None:
        """Remove the journal: the folder becomes a bundle, which holds none."""
        (self._folder / NAME).unlink()
        self.empty = True
        self.close()

    def close(self) -> None:
        """Leave the journal to another process; safe to call twice."""
        self._file.close()


def is_alive(folder: Path) -> bool:
    """Return whether a process is writing in this folder now."""
    try:
        with (folder / NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_journal(folder: Path) -> Iterator[ReusableWeight]:
    """Yield the weights that a process has finished in `folder` before it died.

    Lines that were cut short are left out.
    """
    try:
        lines = (folder / NAME).read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            source, name, dtype, local_shape, parts, devices = json.loads(line)
            places = [
                StoredBytes(_inside(folder, path), int(offset), int(size), hash) for path, offset, size, hash in parts
            ]
        except (ValueError, TypeError, BundleError):
            continue
        yield ReusableWeight(source, name, dtype, local_shape, places, devices, synced=False)


def _inside(folder: Path, path: str) -> Path:
    if os.path.isabs(path) or ".." in Path(path).parts:
        raise BundleError(f"{path} leads out of {folder}")
    return folder / path
