"""What a compile has finished so far, one line a weight, beside the folder that it writes.

A line is the first letters of the SHA-256 of its JSON, a space and the JSON: what is damaged is seen.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mochi_aot.artifacts.reusable import ReusableWeight, StoredBytes

_LOGGER = logging.getLogger("mochi_aot")
NAME = "journal"
_DIGITS = 16  # of a line's hash


class Journal:
    """Appends lines. `folder` is the attempt's, in which the weights lie too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        place = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._file = open(place, "wb", buffering=0)  # noqa: SIM115  closed by `close`
        self.empty = True

    def add(self, made: ReusableWeight) -> None:
        """Note a weight whose parts lie in the folder. Raise OSError."""
        parts = [
            [str(part.place.relative_to(self._folder)), part.offset, part.nbytes, part.blake3] for part in made.parts
        ]
        text = json.dumps([made.source, made.name, made.dtype, made.local_shape, parts, made.devices]).encode()
        self._file.write(_hash(text) + b" " + text + b"\n")
        self.empty = False

    def close(self) -> None:
        """Add no more; safe to call twice."""
        self._file.close()


def is_empty(folder: Path) -> bool:
    """Return whether nothing was finished in `folder`."""
    try:
        return (folder / NAME).stat().st_size == 0
    except OSError:
        return True


def read_journal(folder: Path) -> Iterator[ReusableWeight]:
    """Yield the weights that a process has finished in `folder` before it was stopped.

    Lines that are damaged are left out, and told as one warning; so is a journal that cannot be read. The last line may
    have been cut short when the process was killed, which is no damage.
    """
    try:
        lines = (folder / NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        _LOGGER.warning("%s", f"{folder / NAME} cannot be read ({error.strerror}): its weights are made again")
        return
    damaged = 0
    for line in lines[:-1]:
        weight = _weight(folder, line)
        if weight is None:
            damaged += 1
        else:
            yield weight
    if damaged:
        counts = f"{damaged} of {len(lines) - 1} lines"
        _LOGGER.warning("%s", f"{folder / NAME} is damaged: {counts} are left out, and their weights are made again")


def _weight(folder: Path, line: bytes) -> ReusableWeight | None:
    """Return what a line says; None if it is damaged."""
    digest, _, text = line.partition(b" ")
    if digest != _hash(text):
        return None
    try:
        source, name, dtype, local_shape, parts, devices = json.loads(text)
        places = [StoredBytes(folder / path, offset, nbytes, blake3) for path, offset, nbytes, blake3 in parts]
    except (ValueError, TypeError, RecursionError):
        return None
    if any(folder not in Path(os.path.normpath(part.place)).parents for part in places):
        return None
    return ReusableWeight(source, name, dtype, local_shape, places, devices, synced=False)


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()
