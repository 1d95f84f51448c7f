"""Pages of mapped files: reading them in ahead of their use, letting them go."""

import contextlib
import ctypes
import errno
import mmap
import os
from pathlib import Path

import numpy as np

# Of madvise; the mmap module does not name them.
_COLD = 20  # MADV_COLD, Linux 5.4
_POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14
_SWEEP_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def bytes_from_disk(task: str = "thread-self") -> int:
    """Return the bytes that this thread, or with "self" this process, has had from block devices so far.

    What was read ahead counts too. 0 where the kernel does not tell.
    """
    try:
        lines = Path(f"/proc/{task}/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def read_in(view: memoryview, path: Path, offset: int) -> None:
    """Read a mapped view of the file at `path`, which starts on a page, into the file cache, and map its pages.

    Reading by madvise costs no copy, and raises OSError for what the process would be killed for by touching the map.
    Asked for huge pages, the kernel reads in units of them where the file system can, at what the disk gives to direct
    reads, and takes far less time for each byte.
    """
    _advise(view, mmap.MADV_HUGEPAGE)
    try:
        _madvise(view, _POPULATE_READ)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EFAULT):  # an older kernel, or a page that cannot be read
            raise
        _sweep(path, offset, len(view))


def forget(view: memoryview) -> None:
    """Unmap a view's pages, so that the kernel takes them first for other things; touching them brings them back."""
    _advise(view, _COLD)  # pages that look used when they are unmapped would outlive those read for later
    _madvise(view, mmap.MADV_DONTNEED)


def _advise(view: memoryview, advice: int) -> None:
    """Give advice that a kernel may not know."""
    with contextlib.suppress(OSError):
        _madvise(view, advice)


def _sweep(path: Path, offset: int, nbytes: int) -> None:
    """Read a range of a file through the file cache, into nothing."""
    buffer = bytearray(_SWEEP_BYTES)
    with path.open("rb", buffering=0) as stream:
        for start in range(offset, offset + nbytes, _SWEEP_BYTES):
            wanted = min(_SWEEP_BYTES, offset + nbytes - start)
            if os.preadv(stream.fileno(), [memoryview(buffer)[:wanted]], start) != wanted:
                raise OSError(errno.EIO, f"it ends before byte {start + wanted}, within a weight")


def _madvise(view: memoryview, advice: int) -> None:
    """Call madvise for a view that is not empty. Raise OSError if it fails."""
    address = np.frombuffer(view, np.uint8).ctypes.data
    if _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(len(view)), advice) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
