"""A folder that appears at its place whole or not at all: built beside it, synced, then renamed."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mochi_aot.artifacts.atomic_file import sync
from mochi_aot.artifacts.envelope import has_magic
from mochi_aot.artifacts.errors import BundleError, BundleExistsError, os_errors
from mochi_aot.artifacts.journal import Journal, is_alive
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH


class StagedFolder:
    """`folder` is where to write; `publish` moves it to `path`; `discard` undoes what `publish` has not finished.

    What processes that were killed have left beside `path` is removed when the folder is made. With `keep` it stays
    until `publish`, in `remains`, and so does what this one leaves if it does not come to its end. `check`, which is
    given `path` and `force`, raises a MochiError where the place cannot be had, or is taken; a bundle's, if not given.
    """

    def __init__(
        self, path: Path, force: bool, keep: bool = False, check: Callable[[Path, bool], None] | None = None
    ) -> None:
        self.path, self.force, self.keep = path, force, keep
        self.check = check or check_bundle_place
        self.folder = path.parent / f".{path.name}.partial-{os.getpid()}"
        self.replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
        self.remains: list[Path] = []
        self.journal: Journal | None = None

    def create(self) -> None:
        """Make the folder. Raises what `check` raises, and BundleError if nothing can be written there."""
        with os_errors(f"write {self.path}"):
            self._clear()
            self.check(self.path, self.force)
        with os_errors(f"write in {self.path.parent}"):
            self._make()
            self.journal = Journal(self.folder)

    def publish(self) -> None:
        """Sync to disk and rename into place; what is there stays until the new folder is complete.

        Raises what `check` raises of a place that was taken meanwhile, and BundleError.
        """
        assert self.journal is not None
        with os_errors(f"write {self.path}"):
            # To the disk before the rename: a machine that goes down after it must not leave a bundle of empty files.
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    sync(Path(folder, name))
                sync(Path(folder))
            self.check(self.path, self.force)  # again: another program may have put something there
            # Last of all before the renames: what is synced can be resumed from for as long as the journal is there.
            self.journal.remove()
            if os.path.lexists(self.path):
                # A rename replaces no folder that holds something. Between these two there is nothing at `path`:
                # `discard`, or the next compile if this process is killed here, moves the old one back.
                self.path.rename(self.replaced)
            self.folder.rename(self.path)
            sync(self.path.parent)  # the new name, before anything of the old bundle or of killed processes is removed
        for leftover in self.remains:
            shutil.rmtree(leftover, ignore_errors=True)

    def discard(self) -> bool:
        """Undo what `publish` has not finished, at any time, after success as well: leave `path` as it was, or new, and
        nothing beside it that is not to be kept. Return whether something was kept."""
        if os.path.lexists(self.replaced) and not os.path.lexists(self.path):
            self.replaced.rename(self.path)  # first of all: a fault in what follows must not cost the old bundle
        kept = self.keep and self.journal is not None and not self.journal.empty and self.folder.is_dir()
        if self.journal is not None:
            self.journal.close()
        if not kept:
            shutil.rmtree(self.folder, ignore_errors=True)  # nothing, where `publish` has moved it
        shutil.rmtree(self.replaced, ignore_errors=True)
        return kept

    def _clear(self) -> None:
        """Deal with what killed processes have left: an old bundle that was moved away comes back."""
        partial = [path for path in _beside(self.path, "partial") if not is_alive(path)]
        if not self.path.parent.is_dir() or any(is_alive(path) for path in _beside(self.path, "partial")):
            # Two processes that put things right at the same time would be in each other's way: an old bundle that was
            # moved away waits for a compile that is alone here.
            replaced = []
        else:
            replaced = _beside(self.path, "replaced")
        for path in replaced:
            if os.path.lexists(self.path):
                shutil.rmtree(path)
            else:
                path.rename(self.path)
        if self.keep:
            self.remains = partial
            return
        for path in partial:
            shutil.rmtree(path)

    def _make(self) -> None:
        # The name may be taken: by remains of a process with the same id, or by another machine's.
        for number in itertools.count(1):
            try:
                self.folder.mkdir()
                break
            except FileExistsError:
                self.folder = self.path.parent / f".{self.path.name}.partial-{os.getpid()}-{number}"


def _beside(path: Path, kind: str) -> list[Path]:
    return sorted(found for found in path.parent.glob(f".{_escaped(path.name)}.{kind}-*") if found.is_dir())


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def check_bundle_place(path: Path, force: bool) -> None:
    """Raise BundleError unless a bundle can stand at `path`, if need be, with `force`, in the place of another."""
    if path.name in ("", ".."):
        raise BundleError(f"{path} is not a name for a bundle")
    if not path.parent.is_dir():
        raise BundleError(f"{path.parent} is not a folder; make it first")
    if not os.path.lexists(path):
        return
    if not force:
        raise BundleExistsError(f"{path} exists; choose another path, or use --force to replace a bundle")
    if not _is_bundle(path):
        raise BundleExistsError(
            f"{path} exists and is not a bundle, so --force does not replace it; choose another path"
        )


def _is_bundle(path: Path) -> bool:
    if path.is_symlink():
        return False
    try:
        with (path / MANIFEST_PATH).open("rb") as file:
            return has_magic(MANIFEST_MAGIC, file.read(64))
    except OSError:
        return False
