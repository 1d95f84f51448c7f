"""What a target does in a compile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.weights import KnownSource
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import Families

WeightProgress = Callable[[int, int], None]  # bytes that a device holds: those written, and all


@dataclass(frozen=True)
class Checked:
    """What a bundle records of its programs beside them."""

    geometries: list[schema.Geometry]
    mesh_settings: schema.MeshSettings | None = None
    kernels: schema.Kernels | None = None


class Target(Protocol):
    """Lowers programs one by one, remembers which weights they read, and then writes each weight once."""

    families: Families

    def fitted(self, program: Program, mesh: Mesh, plan: Plan) -> Program:
        """A program without a mesh, changed where a device would not have room for its values under this plan."""

    def add_program(self, writer: BundleWriter, program: Program, plan: str, cost: Cost) -> int:
        """Lowers a partitioned program and writes it; returns its index among the bundle's files."""

    def check_programs(self, writer: BundleWriter, geometries: list[schema.Geometry], mesh: Mesh) -> Checked:
        """Called once, when all programs were added and no weight yet: may run them dry, and adds what that builds."""

    def add_weights(self, writer: BundleWriter, source: KnownSource, mesh: Mesh, progress: WeightProgress) -> int:
        """Writes the weights of all programs added, in the order of `roles`; returns the bytes that a device holds of
        them all."""


def roles(families: Families) -> list[str]:
    """The roles that a target's families serve, in the order in which a video uses them."""
    return [role for family in families for role in family]
