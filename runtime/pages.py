"""Pages of mapped files: whether the file cache has them, reading them in ahead of their use, letting them go."""

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

_POPULATE_READ = 22  # madvise's MADV_POPULATE_READ, Linux 5.14; the mmap module does not name it
_SWEEP_BYTES = 1 << 20
_SHARED_BYTES = 2 << 20  # halves are multiples of this, a huge page

_libc = ctypes.CDLL(None, use_errno=True)


def resident_bytes(view: memoryview) -> int:
    """Bytes of a mapped view, which starts on a page, that the file cache has.

    Of a file that belongs to somebody else and cannot be written the kernel says that it has all.
    """
    pages = (ctypes.c_ubyte * -(-len(view) // mmap.PAGESIZE))()
    _call(_libc.mincore, view, pages)
    return min(len(view), int(np.count_nonzero(np.frombuffer(pages, np.uint8) & 1)) * mmap.PAGESIZE)


def read_in(view: memoryview, path: Path, offset: int) -> None:
    """Read a mapped view of the file at `path`, which starts on a page, into the file cache, and map its pages.

    Reading by madvise costs no copy, and reports what touching the map would be killed for: OSError says what is wrong.
    Two threads share a large view: while one waits for the disk, the other maps what has come.
    """
    half = len(view) // 2 // _SHARED_BYTES * _SHARED_BYTES
    if half == 0:
        _read_part(view, path, offset)
        return
    errors: list[OSError] = []

    def second() -> None:
        try:
            _read_part(view[half:], path, offset + half)
        except OSError as error:
            errors.append(error)

    helper = threading.Thread(target=second, name="weights, second half", daemon=True)
    helper.start()
    try:
        _read_part(view[:half], path, offset)
    finally:
        helper.join()
    if errors:
        raise errors[0]


def _read_part(view: memoryview, path: Path, offset: int) -> None:
    try:
        _call(_libc.madvise, view, _POPULATE_READ)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFAULT):  # an older kernel, or a page that cannot be read
            raise
        _sweep(path, offset, len(view))


def forget(view: memoryview) -> None:
    """Unmap a view's pages: the kernel may then take them for other things. They come back when they are touched."""
    _call(_libc.madvise, view, mmap.MADV_DONTNEED)


def _sweep(path: Path, offset: int, nbytes: int) -> None:
    """Read a range of a file through the file cache, into nothing."""
    buffer = bytearray(_SWEEP_BYTES)
    with path.open("rb", buffering=0) as stream:
        for start in range(offset, offset + nbytes, _SWEEP_BYTES):
            wanted = min(_SWEEP_BYTES, offset + nbytes - start)
            if os.preadv(stream.fileno(), [memoryview(buffer)[:wanted]], start) != wanted:
                raise OSError(errno.EIO, f"it ends before byte {start + wanted}, within a weight")


def _call(function: Callable[..., int], view: memoryview, last: object) -> None:
    """A call of (address, length, last) about a view that is not empty. OSError if it fails."""
    address = np.frombuffer(view, np.uint8).ctypes.data
    if function(ctypes.c_void_p(address), ctypes.c_size_t(len(view)), last) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
