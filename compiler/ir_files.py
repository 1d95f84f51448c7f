"""Writes each program's text after each pass: a folder that appears whole or not at all."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.compiler.errors import IRFolderError
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.passes.pipeline import Applied

SUFFIX = ".ir"


class IRFiles:
    """Context manager; the files are called GEOMETRY.PROGRAM.NUMBER.PASS.ir, with a number for each pass of a program.

    They appear in the folder `path` by `publish`, all at once, and those that stood there stay until then. Without it,
    nothing is left.
    """

    def __init__(self, path: Path, force: bool) -> None:
        """`force` lets a folder be replaced that holds such files and nothing else."""
        self._staged = StagedFolder(path.absolute(), force, check=_check_place)
        self._counts: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Self:
        """Raise IRFolderError if the place is taken, and BundleError if nothing can be written there."""
        self._staged.create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._staged.discard()

    def after_pass(self, applied: Applied) -> None:
        """Write the program that a pass has made: see passes.pipeline.AfterPass."""
        key = (applied.scope, applied.program.name)
        self._counts[key] = self._counts.get(key, 0) + 1
        name = f"{applied.scope}.{applied.program.name}.{self._counts[key]:02}.{applied.name}{SUFFIX}"
        with os_errors(f"write {self._staged.path}"):
            (self._staged.folder / name).write_text(to_text(applied.program))

    def publish(self) -> None:
        """Move what was written into place. Raise IRFolderError if something has appeared there meanwhile."""
        self._staged.publish()
        self._staged.discard()  # the texts that were replaced, now rather than at the end of a long compile


def _check_place(path: Path, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise IRFolderError(f"{path} exists and is not a folder; choose another place for the programs' text")
    others = [item.name for item in path.iterdir() if item.suffix != SUFFIX or not item.is_file()]
    if others:
        raise IRFolderError(
            f"{path} holds {min(others)}, which is no program's text; choose another folder, or an empty one"
        )
    if not force and any(path.iterdir()):
        raise IRFolderError(f"{path} exists and is not empty; choose another folder, or use --force")
