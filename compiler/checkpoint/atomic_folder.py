"""A folder that appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mochi_aot.compiler.checkpoint.errors import CheckpointExistsError

MARKS = ("model_index.json", "dit.safetensors")  # one of these makes a folder a checkpoint, which may be replaced


@contextmanager
def atomic_folder(path: Path, replace: bool) -> Iterator[Path]:
    """Yield a fresh folder beside `path`, which takes its place when the block ends and is removed if the block raises.

    Raise CheckpointExistsError if `path` exists, unless `replace` is given and it is a checkpoint or an empty folder.
    """
    if path.exists() or path.is_symlink():
        _check_replaceable(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fresh = temporary / "new"
        fresh.mkdir()
        yield fresh
        if path.exists():
            path.rename(temporary / "old")
        fresh.rename(path)
    finally:
        shutil.rmtree(temporary)


def _check_replaceable(path: Path, replace: bool) -> None:
    if not replace:
        raise CheckpointExistsError(f"{path} exists: choose another path, or replace it with --force")
    if path.is_symlink() or not path.is_dir():
        raise CheckpointExistsError(f"{path} is not a folder and will not be replaced: choose another path")
    if any(path.iterdir()) and not any((path / mark).is_file() for mark in MARKS):
        raise CheckpointExistsError(f"{path} is not a checkpoint and will not be replaced: choose another path")
