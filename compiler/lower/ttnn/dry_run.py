"""What lowering hands to a dry run: programs, and weights without contents. The dry run itself needs the runtime."""

from dataclasses import dataclass
from typing import Protocol

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.lower.ttnn.lowerer import Weight


@dataclass(frozen=True)
class LocalWeight:
    """What a chip holds of a weight."""

    shape: tuple[int, ...]
    dtype: str
    layout: str


class DryRun(Protocol):
    """Runs the programs of a bundle on a mocked mesh before its weights are written."""

    def __call__(
        self,
        writer: BundleWriter,
        geometries: list[schema.Geometry],
        programs: dict[int, schema.Program],
        weights: dict[str, LocalWeight],
        settings: schema.MeshSettings,
    ) -> tuple[list[schema.Geometry], schema.Kernels]:
        """The geometries with what the dry run found about their programs, and the kernels it has added.

        `programs` are by their index among the bundle's files. Raises BackendError for a program that ttnn refuses.
        """


def local_weight(weight: Weight) -> LocalWeight:
    """Without numbers."""
    return LocalWeight(tuple(weight.local_shape), weight.dtype, weight.layout)
