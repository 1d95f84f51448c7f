"""Renames that replace nothing, and renames that exchange two files or folders: renameat2(2) of Linux."""

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
# What a kernel, a C library or a file system says that has no such rename.
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder. Raise FileExistsError if `target` is there, OSError.

    Where the file system knows no such rename a file is linked first, and only an empty folder can be replaced.
    """
    if _renameat2(source, target, _NOREPLACE):
        return
    if not source.is_dir() or source.is_symlink():
        os.link(source, target, follow_symlinks=False)
        source.unlink()
        return
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        raise


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders at once; False, and nothing done, where the file system cannot. Raise OSError."""
    return _renameat2(one, other, _EXCHANGE)


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))
