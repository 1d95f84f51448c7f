"""Input files, opened so that a path to anything else than a file neither hangs the process nor feeds it for ever."""

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mochi_aot.artifacts.errors import NotAFileError

MAX_INPUT_BYTES = 32 << 20  # of a file that is read whole
BLOCK_BYTES = 4 << 20  # that are held of a file at a time
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file for reading bytes.

    Raise NotAFileError, an OSError, for a FIFO, folder, device or socket, without waiting for who would write to it;
    another OSError where nothing can be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # of files it changes nothing
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotAFileError(errno.EINVAL, "it is a socket, expected a file", str(path)) from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise NotAFileError(errno.EINVAL, f"it is {kind}, expected a file", str(path))
        return os.fdopen(descriptor, "rb", buffering)
    except BaseException:
        os.close(descriptor)
        raise


def read_blocks(file: BinaryIO, start: int = 0, nbytes: int | None = None) -> Iterator[memoryview]:
    """Yield bytes of an open file, block by block, in one buffer that is used again and begins at a page.

    As many as `nbytes`, or all up to the end. Raise OSError for what cannot be read, and if there are fewer.
    """
    buffer = memoryview(mmap.mmap(-1, BLOCK_BYTES if nbytes is None else max(1, min(BLOCK_BYTES, nbytes))))
    while nbytes is None or nbytes > 0:
        count = os.preadv(file.fileno(), [buffer[:nbytes]], start)
        if count == 0:
            if nbytes is None:
                return
            raise OSError(errno.EIO, "it became shorter while it was read")
        yield buffer[:count]
        start += count
        nbytes = None if nbytes is None else nbytes - count


def read_regular(path: Path, limit: int = MAX_INPUT_BYTES) -> bytes:
    """Return the contents of a file of at most `limit` bytes. Raise OSError as `open_regular`, and for a longer one."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise NotAFileError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data
