"""Opens and closes the mesh device, and says why ttnn refused something."""

import ttnn

from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.semaphores import forget_semaphores

_FABRICS = {"none": ttnn.FabricConfig.DISABLED, "1d": ttnn.FabricConfig.FABRIC_1D}


def open_mesh(rows: int, columns: int, settings: MeshSettings) -> ttnn.MeshDevice:
    """Opens rows x columns chips, with the fabric between them and the memory set apart that the bundle wants.

    BackendError if that fails, or the chips are of another architecture than the bundle was compiled for.
    """
    try:
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
    """Closes the mesh and takes the fabric down, which outlives it otherwise."""
    forget_semaphores(mesh)
    ttnn.close_mesh_device(mesh)
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


def reason(error: Exception) -> str:
    """What a ttnn error says is wrong, on one line: without its backtrace, source path and lists of signatures."""
    text = str(error).partition("\nbacktrace:")[0].partition("\n\nAvailable signatures:")[0]
    head, _, info = text.partition("\ninfo:\n")
    if not info:
        return " ".join(text.split()) or type(error).__name__
    condition = head.partition(" @ ")[2].partition(": ")[2]
    return f"{' '.join(info.split())} ({condition})"
