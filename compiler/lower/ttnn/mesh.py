"""How the runtime is to open the mesh for lowered programs."""

from mochi_aot.artifacts.schema import MeshSettings
from mochi_aot.compiler.partition.mesh import Mesh

# Bytes of a core's L1 set apart for the semaphores of collectives, as ttnn's own models do.
_L1_SMALL_BYTES = 32768
# Bytes of DRAM a chip set apart for the commands of a traced denoising step.
_TRACE_BYTES = 64 << 20


def mesh_settings(mesh: Mesh) -> MeshSettings:
    """Collectives need a fabric between the chips; one chip has none."""
    return MeshSettings("1d" if mesh[0] * mesh[1] > 1 else "none", _L1_SMALL_BYTES, _TRACE_BYTES)
