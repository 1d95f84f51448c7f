"""Where compiling meets the runtime, the only file of the compiler that does: see tests/test_imports.py.

A build host has no mesh: programs run dry on a mocked one before any weight is written, which finds what ttnn refuses
and how much memory each program takes, and builds the kernels of the bundle.
"""

from collections.abc import Mapping

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.lower.target import Checked
from mochi_aot.compiler.lower.ttnn.lowerer import Weight
from mochi_aot.runtime.ttnn.mocked import LocalWeight, MockedMesh, mocked_mesh

__all__ = ["LocalWeight", "MockedMesh", "local_weight", "mocked_mesh", "run_and_pack"]


def run_and_pack(
    mocked: MockedMesh,
    writer: BundleWriter,
    geometries: list[schema.Geometry],
    programs: Mapping[int, schema.Program],
    weights: Mapping[str, Weight],
    settings: schema.MeshSettings,
) -> Checked:
    """Run the programs of a bundle dry, by their index among its files, and add the kernels that this has built.

    Return what the bundle records of both. Raise RefusalError for a program that ttnn refuses.
    """
    local = {name: local_weight(weight) for name, weight in weights.items()}
    measured = mocked.measure(geometries, programs, local, settings)
    return Checked(measured, settings, mocked.kernels(writer.add_kernels))


def local_weight(weight: Weight) -> LocalWeight:
    """Return what a dry run needs to know of a weight."""
    return LocalWeight(tuple(weight.local_shape), weight.dtype, weight.layout)
