"""Whether the place of an output can be written to."""

import tempfile
from pathlib import Path

from mochi_aot.runtime.errors import OutputError, OutputExistsError, OutputFolderError


def check_writable(path: Path, force: bool) -> None:
    """Raise OutputError unless `path` can be written: its folder exists and takes files, and it is not there yet.

    With `force` an existing file is fine.
    """
    if path.is_dir():
        raise OutputError(f"the output {path} is a folder; give a file name in it")
    if not force and path.exists():
        raise OutputExistsError(f"the output {path} exists; give another name, or --force to replace it")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"the output folder {folder} does not exist; create it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputFolderError(f"the output folder {folder} cannot be written to: {error.strerror}") from None
