"""A folder that appears at its place whole or not at all: built beside it, synced, then renamed."""

import os
import shutil
from pathlib import Path

from mochi_aot.artifacts.envelope import has_magic
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH


class StagedFolder:
    """`folder` is where to write; `publish` moves it to `path`; `discard` undoes what `publish` has not finished."""

    def __init__(self, path: Path, force: bool) -> None:
        self.path, self.force = path, force
        self.folder = path.parent / f".{path.name}.partial-{os.getpid()}"
        self.replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"

    def create(self) -> None:
        """Make the folder. BundleError if `path` is taken and may not be replaced, or nothing can be written there."""
        with os_errors(f"write {self.path}"):
            _check_destination(self.path, self.force)
        for leftover in (self.folder, self.replaced):
            if os.path.lexists(leftover):
                raise BundleError(f"{leftover} is in the way, left by a run that was killed; remove it")
        with os_errors(f"write in {self.path.parent}"):
            self.folder.mkdir()

    def publish(self) -> None:
        """Sync to disk and rename into place; an old bundle stays until the new one is complete."""
        with os_errors(f"write {self.path}"):
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    _sync(Path(folder, name))
                _sync(Path(folder))
            if self.force and os.path.lexists(self.path):
                _check_destination(self.path, self.force)
                self.path.rename(self.replaced)
            elif os.path.lexists(self.path):
                raise BundleError(f"{self.path} has appeared meanwhile; choose another path")
            self.folder.rename(self.path)
            _sync(self.path.parent)

    def discard(self) -> None:
        """Safe at any time, after success as well: leaves `path` as it was, or new, and nothing beside it."""
        if os.path.lexists(self.replaced) and not os.path.lexists(self.path):
            self.replaced.rename(self.path)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.replaced, ignore_errors=True)


def _check_destination(path: Path, force: bool) -> None:
    if path.name in ("", ".."):
        raise BundleError(f"{path} is not a name for a bundle")
    if not path.parent.is_dir():
        raise BundleError(f"{path.parent} is not a folder; make it first")
    if not os.path.lexists(path):
        return
    if not force:
        raise BundleError(f"{path} exists; choose another path, or use --force to replace a bundle")
    if not _is_bundle(path):
        raise BundleError(f"{path} exists and is not a bundle, so --force does not replace it; choose another path")


def _is_bundle(path: Path) -> bool:
    if path.is_symlink():
        return False
    try:
        with (path / MANIFEST_PATH).open("rb") as file:
            return has_magic(MANIFEST_MAGIC, file.read(64))
    except OSError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
