"""Paths by which ttnn knows what is in this user's cache folder: the same for every user, on every machine.

ttnn 0.81.1 makes the path of its runtime root, letter by letter, a part of what tells kernels apart; nor does it find
those again that were built by another path to the same root. And it puts its paths into shell commands as they are.
So it is given one path for all, without spaces: that of a folder which this process holds open under a number of its
own, `/proc/self/fd/NUMBER`. Compilers that ttnn starts inherit the number. Python's subprocesses do not, unless told
so; whatever Python does itself with these files, it does by their real paths.

Each user has a folder of its own behind that path, and nobody runs what another user has written.
"""

import os
import shlex
import sys
from pathlib import Path

from mochi_aot.runtime.cache import cache_folder
from mochi_aot.runtime.errors import BackendError

# Below the usual limit of 1024 open files, and above the numbers that processes have in use: the system gives the
# lowest one that is free.
_NUMBER = 1000
_FIXED = Path(f"/proc/self/fd/{_NUMBER}")
_taken: list[int] = []  # the number, once this process has given it to a cache folder


def path_for_ttnn(path: Path) -> Path:
    """Return by which path ttnn shall know `path`: the fixed one, if that is in the cache folder; else its own.

    Its own too where this process already has another file open under the number: see `is_fixed`.
    Raises CacheError, and BackendError for a path of its own that ttnn cannot put into a shell command.
    """
    folder = cache_folder()
    if path.is_relative_to(folder) and _hold(folder):
        return _FIXED / path.relative_to(folder)
    path = path.absolute()
    if shlex.quote(str(path)) != str(path):
        raise BackendError(
            f"ttnn cannot build kernels under '{path}': give a path without spaces or special characters"
        )
    return path


def is_fixed(path: Path) -> bool:
    """Whether `path_for_ttnn` gave a path that others have, too."""
    return path.is_relative_to(_FIXED)


def _hold(folder: Path) -> bool:
    """Have the folder open under the number; False if something else is, or /proc is not there."""
    try:
        seen = os.fstat(_NUMBER)
    except OSError:
        pass  # the number is free
    else:
        if os.path.samestat(seen, folder.stat()):
            return True
        if not _taken or "ttnn" in sys.modules:  # not ours to close, or in use by ttnn
            return False
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _taken.append(os.dup2(descriptor, _NUMBER, inheritable=True))
        finally:
            os.close(descriptor)
        return os.path.samestat(_FIXED.stat(), folder.stat())
    except OSError:
        return False
