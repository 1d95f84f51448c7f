"""The folder of built kernels that ttnn works with: how many were found there, and how many it had to build."""

import os
from contextlib import suppress
from pathlib import Path

from mochi_aot.artifacts.kernel_archive import kernel_folders
from mochi_aot.runtime.backend import KernelUse
from mochi_aot.runtime.ttnn.kernel_check import KernelCopy

# When a kernel was last used, and when a part of it was last built, in nanoseconds.
type _Stamps = tuple[int, int]


class KernelCache:
    """Counts from when it is made. Of processes that share a folder each counts what the others do meanwhile, too."""

    def __init__(self, folder: Path, copy: KernelCopy | None = None) -> None:
        """Count in a folder; `copy` tells what there is a bundle's, if anything is."""
        self._folder, self._copy = folder, copy
        self._before = self._stamps()

    def use(self) -> KernelUse:
        """Return what was used and built since the last call, or since this was made.

        A process looks for a kernel once.
        """
        before, self._before = self._before, self._stamps()
        found = built = 0
        for kernel, (used, made) in self._before.items():
            used_before, made_before = before.get(kernel, (0, 0))
            built += made > made_before
            found += made <= made_before and used > used_before
        return KernelUse(found, built)

    def close(self) -> None:
        """Note what was built, as far as that can be done: without a note it is built again next time."""
        if self._copy is not None:
            with suppress(OSError):
                self._copy.note()

    def _stamps(self) -> dict[Path, _Stamps]:
        return {folder: _stamps(folder) for folder in kernel_folders(self._folder)}


def _stamps(folder: Path) -> _Stamps:
    """Return when a kernel's folder changed and when a processor's part was built.

    ttnn writes a kernel's sources whenever it looks for the kernel, and then .build_state for each processor, if it
    builds. A folder's own time changes with the files in it.
    """
    used, made = folder.stat().st_mtime_ns, 0
    for entry in os.scandir(folder):
        state = Path(entry.path, ".build_state")
        if entry.is_dir() and state.exists():
            made = max(made, state.stat().st_mtime_ns)
    return used, made
