"""The mesh that lowered programs are for, and how the runtime is to open it."""

from collections.abc import Iterable

from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.schema import MeshSettings, Program
from mochi_aot.compiler.lower.ttnn.chip_constants import TRACE_BYTES
from mochi_aot.compiler.partition.mesh import Mesh

# Bytes of a core's L1 set apart for the semaphores of collectives, as ttnn's own models do.
_L1_SMALL_BYTES = 32768
# A recorded program has about TRACE_BYTES of commands for each op. No chip has recorded one of ours: 64 MiB more or
# less is little of a chip's 12.8 GB, and a program that finds no room runs slower, without its recording.
_TRACE_MARGIN = 4
_TRACE_UNIT = 64 << 20


def mesh_settings(mesh: Mesh, programs: Iterable[Program] = (), arch: str = WORMHOLE) -> MeshSettings:
    """Return how to open the mesh for `programs`. Collectives need a fabric between the chips; one chip has none."""
    fabric = "1d" if mesh[0] * mesh[1] > 1 else "none"
    return MeshSettings(arch, fabric, _L1_SMALL_BYTES, trace_bytes(programs))


def trace_bytes(programs: Iterable[Program]) -> int:
    """Return the bytes of a chip's DRAM to set apart for the commands of one recorded program, the largest.

    Recorded are those that feed themselves, as a denoising step does: some output is an input of the next run.
    """
    ops = max((len(program.instructions) for program in programs if _feeds_itself(program)), default=0)
    wanted = int(ops * TRACE_BYTES.value) * _TRACE_MARGIN
    return -(-wanted // _TRACE_UNIT) * _TRACE_UNIT


def _feeds_itself(program: Program) -> bool:
    return not {output.name for output in program.outputs}.isdisjoint(item.name for item in program.inputs)
