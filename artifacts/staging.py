"""A folder that appears at its place whole or not at all: built beside it, synced, then renamed.

What is built for `path` lies in `.NAME.partial-UID` beside it, a folder of this user alone that one process at a time
holds. In it each attempt has a folder: `new` becomes what is at `path`, `journal` says what is finished of it, and
`old` is what stood there, for the moment in which a file system without an exchanging rename has nothing at `path`.
"""

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from mochi_aot.artifacts.atomic_file import sync
from mochi_aot.artifacts.envelope import has_magic
from mochi_aot.artifacts.errors import BundleError, BundleExistsError, os_errors
from mochi_aot.artifacts.held_folder import LOCK, HeldFolder, hold
from mochi_aot.artifacts.journal import Journal, is_empty
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH
from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.renaming import exchange, rename_new

_LOGGER = logging.getLogger("mochi_aot")
_NEW, _OLD = "new", "old"


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
        self._place = path.parent / f".{path.name}.partial-{os.geteuid()}"
        self._attempt = self._place / secrets.token_hex(8)
        self.folder = self._attempt / _NEW
        self.remains: list[Path] = []
        self.journal: Journal | None = None
        self._held: HeldFolder | None = None
        self._published = False

    def create(self) -> None:
        """Make the folder. Raises what `check` raises, BundleExistsError where another process writes this folder now,
        and BundleError if nothing can be written there."""
        with os_errors(f"write {self.path}"):
            if not os.path.lexists(self._place):
                self.check(self.path, self.force)
        with os_errors(f"write in {self.path.parent}"):
            self._held = self._hold()
        try:
            with os_errors(f"write {self.path}"):
                attempts = self._mend()
                self.check(self.path, self.force)
            with os_errors(f"write in {self.path.parent}"):
                self._clear(attempts)
                self.folder.mkdir(parents=True)
                self.journal = Journal(self._attempt)
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Sync to disk and rename into place; what is there stays until the new folder is complete.

        Raises what `check` raises of a place that was taken meanwhile, and BundleError.
        """
        with os_errors(f"write {self.path}"):
            # To the disk before the rename: a machine that goes down after it must not leave a bundle of empty files.
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    sync(Path(folder, name))
                sync(Path(folder))
            while not self._published:
                self.check(self.path, self.force)  # again: another program may have put something there
                self._published = self._rename()
            sync(self.path.parent)  # the new name, before anything of the old bundle or of killed processes is removed
        assert self._held is not None
        for leftover in self.remains if self._held.locked else ():
            shutil.rmtree(leftover, ignore_errors=True)

    def discard(self) -> bool:
        """Undo what `publish` has not finished, at any time, after success as well: leave `path` as it was, or new, and
        nothing beside it that is not to be kept. Return whether something was kept."""
        if self._held is None:
            return False
        _put_back(self._attempt, self.path)  # first of all: a fault in what follows must not cost the old bundle
        finished = self.journal is not None and not self.journal.empty
        kept = self.keep and finished and not self._published and self.folder.is_dir()
        if self.journal is not None:
            self.journal.close()
        if not kept and not os.path.lexists(self._attempt / _OLD):
            shutil.rmtree(self._attempt, ignore_errors=True)
        held, self._held = self._held, None
        held.release()
        return kept

    def _hold(self) -> HeldFolder:
        try:
            held = hold(self._place)
        except BlockingIOError:
            raise BundleExistsError(
                f"{self.path} is being written by another process; wait for its end, or choose another path"
            ) from None
        except PermissionError as error:
            if error.errno != errno.EPERM or error.filename != str(self._place):
                raise
            raise BundleError(f"cannot write {self.path}: {self._place}: {error.strerror}") from error
        if not held.locked:
            _LOGGER.warning(
                "files cannot be locked in %s: what stopped processes have left there is not removed", self.path.parent
            )
        return held

    def _mend(self) -> list[Path]:
        """Move back an old bundle that a killed process has moved away; return what is left of unfinished attempts."""
        assert self._held is not None
        attempts = sorted(found for found in self._place.iterdir() if found.name != LOCK)
        if not self._held.locked:  # some may be at work
            return attempts
        for attempt in attempts:
            _put_back(attempt, self.path)
            if is_empty(attempt) or not (attempt / _NEW).is_dir():  # it had finished nothing, or was published
                shutil.rmtree(attempt, ignore_errors=True)
        return [attempt for attempt in attempts if attempt.is_dir()]

    def _clear(self, attempts: list[Path]) -> None:
        """Remove unfinished attempts, or keep them for later."""
        assert self._held is not None
        if self.keep:
            self.remains = attempts
        elif self._held.locked:
            for attempt in attempts:
                shutil.rmtree(attempt)

    def _rename(self) -> bool:
        """Move the folder into place; False if something has come there, or gone, just now. Raise OSError."""
        try:
            if not os.path.lexists(self.path):
                rename_new(self.folder, self.path)
            elif not exchange(self.folder, self.path):
                # Between these two there is nothing at `path`: `discard`, or the next compile if this process is
                # killed here, moves the old one back.
                self.path.rename(self._attempt / _OLD)
                rename_new(self.folder, self.path)
        except (FileExistsError, FileNotFoundError):
            if not self.folder.is_dir():
                raise
            return False
        return True


def _put_back(attempt: Path, path: Path) -> None:
    """Move back what an attempt has moved away from `path`, or remove it if something is there. Raise OSError."""
    old = attempt / _OLD
    if not os.path.lexists(old):
        return
    try:
        rename_new(old, path)
    except FileExistsError:
        shutil.rmtree(old)


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
        with open_regular(path / MANIFEST_PATH) as file:
            return has_magic(MANIFEST_MAGIC, file.read(64))
    except OSError:
        return False
