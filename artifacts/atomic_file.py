"""Files that appear under their name whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mochi_aot.artifacts.errors import about
from mochi_aot.artifacts.held_folder import held_for_now

_PREFIX = ".mochi-new-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write what is to become `path`: a file, or a symbolic link, of the same name beside it.

    It takes the place of `path` at the end of the block, with its bytes on the disk by then. After any exception
    nothing is left of it, and `path` is as it was. Several threads and processes may replace one path at the same time:
    the last one to end has it. Raise OSError where nothing can be written, and where the block has written nothing.
    """
    with about(path), folder_beside(path) as folder:
        new = folder / path.name
        yield new
        if not new.is_symlink():
            sync(new)  # a machine that goes down after the rename must not leave an empty file in the old one's place
        os.replace(new, path)


def folder_beside(path: Path) -> AbstractContextManager[Path]:
    """Give an empty private folder beside `path`, which is removed at the end; see `held_for_now`.

    Raise OSError.
    """
    # A folder of its own, rather than another name: a private file of tempfile's would not have the modes of the umask.
    return held_for_now(path.parent, _PREFIX)


def sync(path: Path) -> None:
    """Wait until a file's contents, or the names in a folder, are on the disk. Raise OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
