"""What a disk gives: files read in large blocks by two threads, each into one buffer of huge pages; none is kept."""

import mmap
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BLOCK_BYTES = 8 << 20
_HUGE_PAGE_BYTES = 2 << 20
_THREADS = 2


@dataclass(frozen=True)
class RawRead:
    """`nbytes` were read in `seconds`."""

    nbytes: int
    seconds: float


def read_raw(files: Iterable[Path], direct: bool, most: int | None = None) -> RawRead:
    """Read files, at most `most` bytes of them, past the file cache (`direct`) or through it.

    Raise OSError where a file cannot be read, or its file system has no direct reads.
    """
    with ExitStack() as opened:
        blocks, total = _blocks(files, os.O_DIRECT if direct else 0, most, opened)
        begun = time.perf_counter()
        nbytes = _read_all(blocks)
        seconds = time.perf_counter() - begun
    if nbytes != total:
        raise OSError(f"read {nbytes} of {total} bytes")
    return RawRead(nbytes, seconds)


def huge_pages(nbytes: int) -> memoryview:
    """Return fresh memory in huge pages, where they can be had."""
    room = mmap.mmap(-1, nbytes + _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room.madvise(mmap.MADV_HUGEPAGE)
    skipped = -np.frombuffer(room, np.uint8).ctypes.data % _HUGE_PAGE_BYTES
    return memoryview(room)[skipped : skipped + nbytes]


def _blocks(
    files: Iterable[Path], flags: int, most: int | None, opened: ExitStack
) -> tuple[Iterator[tuple[int, int]], int]:
    """Return handles and offsets of whole blocks, and the bytes that they have."""
    blocks, total = [], 0
    for path in files:
        if most is not None and total >= most:
            break  # a bundle for chips has thousands of files, more than a process may have open
        handle = os.open(path, os.O_RDONLY | flags)
        opened.callback(os.close, handle)
        size = os.fstat(handle).st_size
        for offset in range(0, size, _BLOCK_BYTES):
            if most is not None and total >= most:
                break
            blocks.append((handle, offset))
            total += min(_BLOCK_BYTES, size - offset)
    return iter(blocks), total


def _read_all(blocks: Iterator[tuple[int, int]]) -> int:
    lock = threading.Lock()
    totals, errors = [0] * _THREADS, list[OSError]()

    def work(index: int) -> None:
        buffer = huge_pages(_BLOCK_BYTES)
        try:
            while True:
                with lock:
                    block = next(blocks, None)
                if block is None:
                    return
                totals[index] += os.preadv(block[0], [buffer], block[1])
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(totals)
