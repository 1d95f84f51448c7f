"""The folder of built kernels: real ones and a stand-in's never share one."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mochi_aot.runtime.ttnn.mock.compiler import MARK
from mochi_aot.runtime.ttnn.mock.errors import MockMeshError
from mochi_aot.runtime.ttnn.mock.files import write

# Lies in every folder of kernels that a stand-in has built.
MARK_FILE = "STAND-IN"


def holds_stand_ins(cache: Path) -> bool:
    """Whether a folder's kernels were built by the stand-in compiler, and so must never reach a chip."""
    return (cache / MARK_FILE).exists()


def claim_cache(cache: Path, real: bool) -> None:
    """Make the folder, and mark it if the stand-in will fill it. Raises MockMeshError if it holds the other kind.

    Processes may claim the same folder at the same time.
    """
    if real:
        cache.mkdir(parents=True, exist_ok=True)
        if holds_stand_ins(cache):
            raise MockMeshError(f"{cache} holds a stand-in's kernels, not a real compiler's: give another folder")
    elif not holds_stand_ins(cache):
        _make_marked(cache)
        if not holds_stand_ins(cache):
            raise MockMeshError(f"{cache} holds files that the stand-in compiler did not make: give an empty folder")


def _make_marked(cache: Path) -> None:
    """The folder appears with its mark, unless it is there and not empty."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache.parent) as folder:
        new = Path(folder, "new")
        write(new / MARK_FILE, f"{MARK}\n")
        try:
            new.rename(cache)
        except OSError:
            if not cache.is_dir():
                raise
