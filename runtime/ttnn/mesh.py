"""Opens and closes the mesh device, and says why ttnn refused something."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

import ttnn

from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.cache import temporary_folder
from mochi_aot.runtime.errors import BackendError, CacheError
from mochi_aot.runtime.ttnn.semaphores import forget_semaphores

_FABRICS = {"none": ttnn.FabricConfig.DISABLED, "1d": ttnn.FabricConfig.FABRIC_1D}


def open_mesh(rows: int, columns: int, settings: MeshSettings) -> ttnn.MeshDevice:
    """Open rows x columns chips, with the fabric between them and the memory set apart that the bundle wants.

    Raises CacheError; BackendError if that fails, or the chips are of another architecture than the bundle was
    compiled for.
    """
    try:
        with _files_of_mpi():
            ttnn.set_fabric_config(_FABRICS[settings.fabric])
            mesh = ttnn.open_mesh_device(
                ttnn.MeshShape(rows, columns),
                l1_small_size=settings.l1_small_bytes,
                trace_region_size=settings.trace_bytes,
            )
    except RuntimeError as error:
        raise BackendError(f"cannot open a mesh of {rows}x{columns} chips: {reason(error)}") from error
    seen = mesh.arch().name.lower()
    if seen != settings.arch:
        close_mesh(mesh)
        raise BackendError(f"the bundle was compiled for {settings.arch} chips, and these are {seen} chips")
    return mesh


def close_mesh(mesh: ttnn.MeshDevice) -> None:
    """Close the mesh and take the fabric down, which outlives the mesh otherwise."""
    forget_semaphores(mesh)
    ttnn.close_mesh_device(mesh)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


@contextmanager
def _files_of_mpi() -> Iterator[None]:
    """Have OpenMPI, which ttnn starts with the first mesh, keep its files in the cache folder.

    TMPDIR is all that tells OpenMPI 5 where, and is left as it was for everything else.
    """
    _check_libc_can_make_files()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(_folder_of_mpi())
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def _check_libc_can_make_files() -> None:
    """Raise CacheError unless /tmp can be written to.

    ttnn 0.81.1 asks the kernel compiler for its version by way of the C library's tmpfile(), which knows no other
    place, and says no more than that the compiler's version could not be had.
    """
    try:
        with TemporaryFile(dir="/tmp"):
            pass
    except OSError as error:
        raise CacheError(
            f"ttnn needs to make files in /tmp, whatever TMPDIR is: {error.strerror}; mount something small there"
        ) from None


@cache
def _folder_of_mpi() -> Path:
    """Return a folder that is there until this process ends."""
    held = temporary_folder("openmpi")
    atexit.register(held.__exit__, None, None, None)
    return held.__enter__()


def reason(error: Exception) -> str:
    """Return what a ttnn error says is wrong, on one line: no backtrace, source path nor lists of signatures."""
    text = str(error)
    for rest in ("\nbacktrace:", "\n\nAvailable signatures:", "\nLocation: "):  # the last is the driver's
        text = text.partition(rest)[0]
    head, _, info = text.partition("\ninfo:\n")
    if not info:
        return " ".join(text.split()) or type(error).__name__
    condition = head.partition(" @ ")[2].partition(": ")[2]
    return f"{' '.join(info.split())} ({condition})"
