"""Opens and closes the mesh device, and says why ttnn refused something."""

import ttnn

from mochi_aot.runtime.errors import BackendError

# Bytes of a core's L1 set apart for the semaphores of collectives, as ttnn's own models do.
_L1_SMALL_BYTES = 32768
# Bytes of DRAM a chip set apart for the commands of a traced denoising step.
_TRACE_BYTES = 64 << 20


def open_mesh(rows: int, columns: int) -> ttnn.MeshDevice:
    """Opens rows x columns chips, with the fabric between them that collectives need. BackendError if that fails."""
    try:
        if rows * columns > 1:
            ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
        shape = ttnn.MeshShape(rows, columns)
        return ttnn.open_mesh_device(shape, l1_small_size=_L1_SMALL_BYTES, trace_region_size=_TRACE_BYTES)
    except RuntimeError as error:
        raise BackendError(f"cannot open a mesh of {rows}x{columns} chips: {reason(error)}") from error


def close_mesh(mesh: ttnn.MeshDevice) -> None:
    """Closes the mesh and takes the fabric down, which outlives it otherwise."""
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
