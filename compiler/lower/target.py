"""What a target does in a compile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.ir.program import Param, Program
from mochi_aot.compiler.lower.weights import KnownSource
from mochi_aot.compiler.partition.choose import Estimate
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import Families

Change = Callable[[Program], Program]
WeightProgress = Callable[[int, int], None]  # bytes that a device holds: those written, and all


@dataclass(frozen=True)
class Checked:
    """What a bundle records of its programs beside them."""

    geometries: list[schema.Geometry]
    mesh_settings: schema.MeshSettings | None = None
    kernels: schema.Kernels | None = None


@dataclass(frozen=True)
class FormedParam:
    """A weight as a target has it: its name in the bundle, what it is made of, how devices hold it, and the packages
    that make it. For `form` see artifacts.delta_schema.TunedWeight; others are the target's own."""

    name: str
    param: Param
    form: str
    tools: tuple[str, ...] = ()


class Target(Protocol):
    """Lowers programs one by one, remembers which weights they read, and then writes each weight once."""

    families: Families

    def fitted(self, program: Program, mesh: Mesh, plan: Plan) -> Program:
        """Return a program without a mesh, changed where a device would not have room for its values under the plan."""

    def narrowing(self, role: str) -> Change | None:
        """Return the pass that has products of a partitioned program made in narrower numbers; None for none."""

    def estimate(self, program: Program, plan: str, cost: Cost) -> Estimate:
        """Return what one run of a partitioned program takes of a device, modelled. Raises PlanError if it cannot be
        lowered."""

    def memory_bytes(self, mesh: Mesh) -> float:
        """Return the bytes of a device's memory that plans may use."""

    def lowered(self, program: Program, plan: str, cost: Cost) -> schema.Program:
        """Return a partitioned program as the target's instructions; its weights are remembered."""

    def check_programs(
        self,
        writer: BundleWriter,
        geometries: list[schema.Geometry],
        programs: dict[int, schema.Program],
        mesh: Mesh,
    ) -> Checked:
        """Check the programs, once, when all were lowered and no weight was written: perhaps run them dry, and add what
        that builds. `programs` are by their index among the bundle's files."""

    def add_weights(self, writer: BundleWriter, source: KnownSource, mesh: Mesh, progress: WeightProgress) -> int:
        """Write the weights of all programs that were lowered, in the order of `roles`; return the bytes that a device
        holds of them all."""

    def formed_params(self) -> Iterator[FormedParam]:
        """Yield the weights that `add_weights` writes."""


def roles(families: Families) -> list[str]:
    """Return the roles that a target's families serve, in the order in which a video uses them."""
    return [role for family in families for role in family]
