"""A folder that appears whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mochi_aot.artifacts.errors import about
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.compiler.checkpoint.errors import CheckpointExistsError

MARKS = ("model_index.json", "dit.safetensors")  # one of these makes a folder a checkpoint, which may be replaced


@contextmanager
def atomic_folder(path: Path, replace: bool) -> Iterator[Path]:
    """Yield a fresh folder beside `path`, which takes its place when the block ends and is removed if the block raises.

    Raise CheckpointExistsError if `path` exists, unless `replace` is given and it is a checkpoint or an empty folder;
    BundleExistsError where another process writes it now, and BundleError where nothing can be written.
    """
    _check_place(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = StagedFolder(path.absolute(), replace, check=_check_place)
    staged.create()
    try:
        with about(path):
            yield staged.folder
        staged.publish()
    finally:
        staged.discard()


def _check_place(path: Path, replace: bool) -> None:
    if os.path.lexists(path):
        _check_replaceable(path, replace)


def _check_replaceable(path: Path, replace: bool) -> None:
    if not replace:
        raise CheckpointExistsError(f"{path} exists: choose another path, or replace it with --force")
    if path.is_symlink() or not path.is_dir():
        raise CheckpointExistsError(f"{path} is not a folder and will not be replaced: choose another path")
    if any(path.iterdir()) and not any((path / mark).is_file() for mark in MARKS):
        raise CheckpointExistsError(f"{path} is not a checkpoint and will not be replaced: choose another path")
