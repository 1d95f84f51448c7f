"""The mesh that lowered programs are for, and how the runtime is to open it."""

from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.compiler.partition.mesh import Mesh

# What the rules' core grids, chunks and sizes of memory are for.
_ARCH = "wormhole_b0"
# Bytes of a core's L1 set apart for the semaphores of collectives, as ttnn's own models do.
_L1_SMALL_BYTES = 32768
# Bytes of DRAM a chip set apart for the commands of a traced denoising step.
_TRACE_BYTES = 64 << 20


def mesh_settings(mesh: Mesh) -> MeshSettings:
    """Collectives need a fabric between the chips; one chip has none."""
    return MeshSettings(_ARCH, "1d" if mesh[0] * mesh[1] > 1 else "none", _L1_SMALL_BYTES, _TRACE_BYTES)
