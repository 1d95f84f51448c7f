"""The unpacked kernels of bundles that are kept for a user: which are in use, and which are removed.

Beside each copy lies a file, `NAME.used`: locked, shared, by every process that uses the copy, and its time is that of
the last use. While a process makes or checks a copy that no other process uses, the lock is its alone.
"""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mochi_aot.runtime.cache import making

KEPT_SECONDS = 30 * 24 * 3600.0  # since its last use, that a copy is kept
KEPT_BYTES = 4 << 30  # of all copies together; the ones that were not used for the longest time go first
_USED = ".used"
_held: dict[Path, int] = {}  # by the place of a copy: its lock, for as long as this process lives
_entering = threading.Lock()  # a file's lock is the process's: it keeps no other thread away


def _forked() -> None:
    """Give a forked process a lock of its own: the thread that had its parent's is not in it."""
    global _entering
    _entering = threading.Lock()


os.register_at_fork(after_in_child=_forked)


@contextmanager
def use_copy(place: Path) -> Iterator[bool]:
    """Keep the copy of kernels at `place`, or the one that will be there, for as long as this process lives.

    Gives whether no other process uses the copy; where that is so, whoever else wants it waits until the end of the
    `with` statement. Other threads of this process wait in any case. Raise OSError.
    """
    with _entering:
        alone = _take(place)
        try:
            yield alone
        finally:
            with suppress(OSError):
                fcntl.flock(_held[place], fcntl.LOCK_SH)


def remove_old_copies(folder: Path, now: float | None = None) -> None:
    """Remove the copies in `folder` that nobody uses and that are too old, or too many, as far as that can be done."""
    now = time.time() if now is None else now
    kept = 0
    with suppress(OSError):
        used = [path for path in folder.glob(f"*{_USED}") if path.is_file()]
        for path in sorted(used, key=lambda path: path.stat().st_mtime, reverse=True):
            copy = path.with_suffix("")
            size = _bytes_in(copy)
            old = path.stat().st_mtime < now - KEPT_SECONDS
            if not ((old or kept + size > KEPT_BYTES) and _remove(copy)):
                kept += size


def _take(place: Path) -> bool:
    """Lock a copy, and return whether the lock is this process's alone. Raise OSError."""
    while True:
        descriptor = _held.pop(place, None)
        if descriptor is None:
            descriptor = os.open(_used(place), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            alone = _lock(descriptor)
            os.utime(descriptor)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), _used(place).lstat()):
                    _held[place] = descriptor
                    return alone
        finally:
            if place not in _held:
                os.close(descriptor)  # that copy was removed just now


def _lock(descriptor: int) -> bool:
    """Lock a file for this process alone, or else shared, which waits for who has it alone. Return which it was.

    On a file system without locks it is neither: there nothing is ever removed.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return False
    return True


def _used(place: Path) -> Path:
    return place.with_name(place.name + _USED)


def _bytes_in(copy: Path) -> int:
    return sum(Path(folder, name).lstat().st_size for folder, _, names in os.walk(copy) for name in names)


def _remove(copy: Path) -> bool:
    """Remove a copy, unless a process uses it or files cannot be locked here. Return whether it has gone."""
    with suppress(OSError), _used(copy).open("rb") as used:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with making(copy) as folder:  # out of the way at once: who comes now makes another one
            if copy.exists():
                copy.rename(folder / "old")
            _used(copy).unlink()
            for place, _, _ in os.walk(folder / "old"):
                os.chmod(place, 0o700)  # it may have been read-only
            shutil.rmtree(folder / "old", ignore_errors=True)
        return True
    return False
