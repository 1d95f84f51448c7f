"""The one folder for all that is kept outside of outputs, and that can be made again at any time.

`MOCHI_CACHE` names it. It holds programs that are executed (kernels, a compiler), so it belongs to this user, and no
other user can write to it.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from mochi_aot.artifacts.held_folder import held_for_now, remove_left
from mochi_aot.runtime.errors import CacheError

VARIABLE = "MOCHI_CACHE"
_MAKING, _TEMPORARY = ".making-", "mochi-"  # what names of unfinished things begin with
_ADVICE = f"set {VARIABLE} to a folder that can be written to"


def cache_folder() -> Path:
    """Return the folder, made if it is not there.

    $MOCHI_CACHE; where that is not set $XDG_CACHE_HOME/mochi-aot or ~/.cache/mochi-aot; where that cannot be written
    to, mochi-aot-UID in the folder for temporary files. In a folder that others own, or can write to, it is user-UID.
    Raises CacheError where none can be had.
    """
    chosen = os.environ.get(VARIABLE, "")
    try:
        return _private(Path(chosen).resolve() if chosen else _users_folder())
    except OSError as error:
        if chosen:
            raise CacheError(f"cannot keep files in {chosen}: {error.strerror}; {_ADVICE}") from None
        reason = f"{error.filename}: {error.strerror}"
    for folder in filter(None, (os.environ.get("TMPDIR"), "/tmp", "/var/tmp")):
        with suppress(OSError):
            return _private(Path(folder).absolute() / f"mochi-aot-{os.geteuid()}")
    raise CacheError(f"no folder to keep files in ({reason}), nor one for temporary files; {_ADVICE}")


def ensure_home() -> None:
    """Set HOME where it is not: to this user's folder, or to the cache folder if the user has none.

    Services often have no HOME, and importing ttnn 0.81.1 without one ends in a segmentation fault.
    """
    if "HOME" not in os.environ:
        home = os.path.expanduser("~")
        os.environ["HOME"] = home if os.path.isabs(home) else str(cache_folder())


def ensure_temporary_files() -> None:
    """Set TMPDIR to a folder in the cache folder where no usual place for temporary files can be written to.

    Importing torch 2.15's export fails without such a place, though it writes nothing there. Raises CacheError.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = cache_folder() / "temporary"
        with _errors_as_cache_error(folder):
            folder.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(folder)


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Give an empty folder in the cache folder, which is removed at the end.

    A process that is killed leaves its folder, and the next process that needs one removes it: a folder whose lock can
    be had belongs to nobody. Raises CacheError.
    """
    parent = cache_folder() / "temporary"
    with ExitStack() as held:
        with _errors_as_cache_error(parent):
            parent.mkdir(exist_ok=True)
            remove_left(parent, _TEMPORARY)  # of other purposes, too
            folder = held.enter_context(held_for_now(parent, f"{_TEMPORARY}{purpose}-"))
        yield folder


def making(place: Path) -> AbstractContextManager[Path]:
    """Give an empty folder beside `place`, for what is moved there when it is whole; see `temporary_folder`.

    Raises OSError.
    """
    return held_for_now(place.parent, _MAKING)


@contextmanager
def _errors_as_cache_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(f"cannot write to {folder}: {error.strerror}; {_ADVICE}") from None


def _users_folder() -> Path:
    """Return where caches of this user belong by the XDG Base Directory Specification, which ignores relative paths."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        home = Path(os.path.expanduser("~"))
        if not home.is_absolute():
            raise FileNotFoundError(0, "this user has no home folder", "~")
        base = home / ".cache"
    return (base / "mochi-aot").resolve()


def _private(folder: Path) -> Path:
    """Return the folder, or one in it, that is this user's alone. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(folder):
        folder /= f"user-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_own(folder):
            raise PermissionError(0, f"{folder} is not this user's alone", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(0, "not writable", str(folder))
    return folder


def _is_own(folder: Path) -> bool:
    """Whether this is a folder of this user that nobody else can write to; a link is none."""
    seen = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & others
