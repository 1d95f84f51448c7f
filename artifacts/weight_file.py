"""A weight file that grows: shards one after the other, each on a page.

Written past the page cache where the system allows it: that takes a tenth of the processor's time, leaves the cache to
the checkpoint that is being read, and leaves nothing for the final sync to wait for.
"""

import errno
import fcntl
import mmap
import os
import shutil
from pathlib import Path

import numpy as np

from mochi_aot.artifacts.layout import ALIGNMENT, align
from mochi_aot.artifacts.regular_file import open_regular, read_blocks

BUFFER_BYTES = 8 << 20  # small shards are collected in it
DIRECT_WRITE_BYTES = 256 << 10  # a shard of at least this is written from where it lies, if it lies on a page


class WeightFile:
    """Appends to a new file at `path`. Its methods raise OSError as writing does.

    As long as it only adopts shards where another file has them, it stays unwritten: a file that another one holds
    whole becomes a link to it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.nbytes = path, 0
        self._descriptor: int | None = None
        self._base: Path | None = None  # has the same first `nbytes` bytes, and is not ours to change
        self._buffer: mmap.mmap | None = None  # from the first write until the file is closed: files may be hundreds
        self._pending = 0  # bytes in the buffer, not yet in the file

    def append(self, data: memoryview) -> int:
        """Write bytes at the next page; return their offset."""
        if self._base is not None:
            self._copy_base()
        offset = align(self.nbytes)
        self._write(memoryview(bytes(offset - self.nbytes)))
        self._write(data)
        return offset

    def adopt(self, place: Path, start: int, nbytes: int) -> int:
        """Have bytes of another file at the next page, without writing them if they lie there as well."""
        offset = align(self.nbytes)
        if start == offset and (self.nbytes == 0 or self._base == place):
            self._base, self.nbytes = place, offset + nbytes
            return offset
        with open_regular(place, buffering=0) as file:
            for index, block in enumerate(read_blocks(file, start, nbytes)):
                self.append(block) if index == 0 else self._write(block)
        return offset

    def finish(self) -> None:
        """Close the file, whole and on the disk."""
        if self._base is not None:
            if self._base.stat().st_size == self.nbytes and _linked(self._base, self.path):
                self.close()
                return
            self._copy_base()
        self._flush(self.nbytes)
        assert self._descriptor is not None  # a file is made for its first shard
        os.ftruncate(self._descriptor, self.nbytes)
        os.fdatasync(self._descriptor)
        self.close()

    def close(self) -> None:
        """Close the file where it is; safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        self._buffer = None  # not closed: after an error, its traceback has views of it

    def _copy_base(self) -> None:
        base, nbytes = self._base, self.nbytes
        assert base is not None
        self._base, self.nbytes = None, 0
        with open_regular(base, buffering=0) as file:
            for block in read_blocks(file, 0, nbytes):
                self._write(block)

    def _write(self, data: memoryview) -> None:
        self.nbytes += len(data)
        self._buffer = buffer = self._buffer or mmap.mmap(-1, BUFFER_BYTES)
        while len(data) > 0:
            whole = len(data) // ALIGNMENT * ALIGNMENT
            if self._pending % ALIGNMENT == 0 and whole >= DIRECT_WRITE_BYTES and _address(data) % ALIGNMENT == 0:
                self._flush(self.nbytes - len(data))
                self._pwrite(data[:whole], self.nbytes - len(data))
                data = data[whole:]
                continue
            count = min(len(data), BUFFER_BYTES - self._pending)
            buffer[self._pending : self._pending + count] = data[:count]
            self._pending += count
            data = data[count:]
            if self._pending == BUFFER_BYTES:
                self._flush(self.nbytes - len(data))

    def _flush(self, end: int) -> None:
        """Write what is in the buffer, which ends at byte `end` of the file, and zeros up to the next page."""
        if self._buffer is None or self._pending == 0:
            return
        padded = align(self._pending)
        self._buffer[self._pending : padded] = bytes(padded - self._pending)
        self._pwrite(memoryview(self._buffer)[:padded], end - self._pending)
        self._pending = 0

    def _pwrite(self, data: memoryview, offset: int) -> None:
        if self._descriptor is None:
            self._descriptor = _create(self.path)
        while len(data) > 0:  # a write may be short, 2 GiB at most on Linux
            try:
                count = os.pwrite(self._descriptor, data, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not _is_direct(self._descriptor):
                    raise
                _set_buffered(self._descriptor)
                continue
            data, offset = data[count:], offset + count


def _create(path: Path) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    path.unlink(missing_ok=True)  # some file systems have made it before they refuse
    return os.open(path, flags, 0o666)


def _is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def _set_buffered(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_DIRECT)


def _address(data: memoryview) -> int:
    return np.frombuffer(data, np.uint8).ctypes.data


def link_or_copy(source: Path, place: Path) -> None:
    """Put the bytes of `source` at `place` too, without writing them if the file system can."""
    if not _linked(source, place):
        shutil.copyfile(source, place)


def _linked(source: Path, place: Path) -> bool:
    """Return whether `place` is a second name of the file `source` now; some file systems have none."""
    try:
        os.link(source, place)
    except OSError:
        return False
    return True
