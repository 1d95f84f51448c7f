"""Folders that one process works in: this user's alone, and locked for as long as the process lives.

So whoever comes later can tell what is in use from what a killed process has left. The lock is on a file in the folder,
since NFS locks no folders. Where a file system has no locks nothing is ever taken for left behind.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "lock"


class HeldFolder:
    """A folder that this process holds until `release` or `remove`. `locked` is False where there are no locks."""

    def __init__(self, path: Path, descriptor: int, locked: bool) -> None:
        self.path, self.locked = path, locked
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the folder; it goes too, if nothing but the lock is left in it."""
        # While it is locked: whoever has opened this file and gets the lock later sees that it is no longer the one.
        with suppress(OSError):
            (self.path / LOCK).unlink()
        with suppress(OSError):  # not empty, or another process holds it by now
            self.path.rmdir()
        self.leave()

    def leave(self) -> None:
        """Let go of the folder, and leave it as it is."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Remove the folder with all that is in it, as far as that can be done, and let go of it."""
        _remove_contents(self.path)
        self.release()


def hold(path: Path) -> HeldFolder:
    """Hold the folder of this name, which is made if need be.

    Raise BlockingIOError where another process holds it, PermissionError where it is not this user's alone, OSError.
    """
    while True:
        made = False
        with suppress(FileExistsError):
            path.mkdir(0o700)
            made = True
        with suppress(FileNotFoundError):  # its holder has removed it between two of these steps
            if not made:
                _check_private(path)
            held = _lock(path)
            if held is not None:
                return held


def hold_new(parent: Path, prefix: str) -> HeldFolder:
    """Make a folder with a name that nobody can foresee, and hold it. Raise OSError."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Between these two steps another process may take it for left behind, and remove it.
        with suppress(FileNotFoundError, BlockingIOError):
            held = _lock(path)
            if held is not None:
                return held


@contextmanager
def held_for_now(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder in a new one that is held meanwhile, and removed at the end with all that is in it.

    So are those of this prefix that killed processes have left. Raise OSError.
    """
    remove_left(parent, prefix)
    held = hold_new(parent, prefix)
    try:
        inside = held.path / "new"  # apart from the lock, whatever is put there
        inside.mkdir()
        yield inside
    finally:
        held.remove()


def remove_left(parent: Path, prefix: str) -> None:
    """Remove this user's folders whose names begin so and that no process holds, as far as that can be done."""
    with suppress(OSError), os.scandir(parent) as entries:
        for path in [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]:
            with suppress(OSError):
                _check_private(path)
                _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    """Remove a folder, unless a process holds it or files cannot be locked here. Raise OSError."""
    if not (path / LOCK).exists():
        path.rmdir()  # its process was killed before it locked anything, or has yet to: then it makes another one
        return
    held = _lock(path)
    if held is None:
        return
    if held.locked:
        held.remove()
    else:
        held.leave()


def _lock(folder: Path) -> HeldFolder | None:
    """Lock a folder; None if the lock was that of a holder that has gone. Raise BlockingIOError, OSError."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        with suppress(OSError):  # a full disk: an empty folder is of no use to anybody
            folder.rmdir()
        raise
    try:
        locked = _try_flock(descriptor)
        if os.path.samestat(os.fstat(descriptor), (folder / LOCK).lstat()):
            return HeldFolder(folder, descriptor, locked)
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _try_flock(descriptor: int) -> bool:
    """Lock a file; False where files cannot be locked. Raise BlockingIOError where another process has it locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _check_private(path: Path) -> None:
    """Raise PermissionError unless this is a folder of this user that nobody else can write to; a link is none."""
    seen = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & others:
        raise PermissionError(errno.EPERM, "it is not a folder of this user alone; remove it", str(path))


def _remove_contents(path: Path) -> None:
    """Remove all but the lock, which goes last: until then it says that somebody is at work."""
    with suppress(OSError), os.scandir(path) as entries:
        for entry in list(entries):
            if entry.name == LOCK:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)
