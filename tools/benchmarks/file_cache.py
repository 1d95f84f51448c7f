"""Putting files into the file cache and out of it, and seeing that they are, for measurements."""

import ctypes
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mochi_aot.artifacts.errors import MochiError

_TRIES = 20


def evict(files: Iterable[Path]) -> None:
    """Drop these files, and no others, from the file cache. MochiError if a byte of them stays."""
    files = list(files)
    for _ in range(_TRIES):
        for path in files:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())  # a page that is not written yet would stay
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if cached_bytes(files) == 0:
            return
        time.sleep(0.1)
    left = ", ".join(path.name for path in files if cached_bytes([path]))
    raise MochiError(f"{left} cannot be dropped from the file cache: give --folder on a disk, which no process uses")


def warm(files: Iterable[Path]) -> None:
    """Read these files into the file cache."""
    buffer = bytearray(1 << 20)
    for path in files:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def cached_bytes(files: Iterable[Path]) -> int:
    """Return the bytes of these files that the file cache has."""
    return sum(_cached(path) for path in files)


def _cached(path: Path) -> int:
    """Return the bytes of a file that are cached: all, says the kernel of a file that this user may not write."""
    size = path.stat().st_size
    if size == 0:
        return 0
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        address = np.frombuffer(mapped, np.uint8).ctypes.data
        if ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return min(size, int(np.count_nonzero(np.frombuffer(pages, np.uint8) & 1)) * mmap.PAGESIZE)
