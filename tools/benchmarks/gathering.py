"""What TT-DiT does with Mochi on Wormhole meshes, for comparison with this compiler's plans. No bundle follows it.

Each weight of the blocks is cut by the tensor axis as here and by the sequence axis too, along its other dimension, and
is gathered over the latter at each use (fully sharded data parallelism). The VAE's group norms gather whole activations
where they are cut in space, instead of their statistics. All else is as in this compiler's plans: Megatron's pairs of
products, ring attention, halos.
"""

from dataclasses import dataclass, replace

from mochi_aot.compiler.ir.program import Op, Program, Value
from mochi_aot.compiler.ir.types import REPLICATE
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.plan import Cut, Plan
from mochi_aot.compiler.partition.plans import (
    DECODER_PLANS,
    MODULATIONS,
    TRANSFORMER_INPUTS,
    TRANSFORMER_OUTPUTS,
    transformer_plan,
)
from mochi_aot.compiler.partition.rules import RULES
from mochi_aot.compiler.partition.rules.table import whole_along
from mochi_aot.compiler.partition.rules.video import CHANNELS, HEIGHT, WIDTH
from mochi_aot.compiler.partition.spmd import propagate

# Which mesh axis cuts the sequence on the meshes that TT-DiT publishes: sp 2, tp 4 and sp 8, tp 4.
SEQUENCE_AXES = {(2, 4): 0, (4, 8): 1}

# The decoder's mesh and cuts. Eight chips stand in a row and cut time alone; of 32, TT-DiT cuts time in eight and the
# picture in 2 x 2 along the other axis, taken here as four cuts of the height: its gathers are the same.
DECODERS = {(2, 4): ((1, 8), "h0t1"), (4, 8): ((4, 8), "h0t1")}


@dataclass(frozen=True)
class GatheringScheme:
    """A plan, and what it gathers: the parameters along a mesh axis at each use, whole activations for group norms."""

    plan: Plan
    gathered_axis: int | None = None
    whole_norms: bool = False

    def partition(self, program: Program, mesh: Mesh) -> Program:
        """Return the SPMD form of `program` for `mesh`. Raises PlanError where the plan cannot work."""
        rules = {**RULES, "group_norm": _whole_group_norm} if self.whole_norms else RULES
        return propagate(_GatheringPartitioner(program, mesh, self), rules)


def transformer_scheme(sequence_axis: int, multiple: int = 1) -> GatheringScheme:
    """Return `transformer_plan` with the blocks' weights and modulations gathered along the sequence axis."""
    plan = transformer_plan(sequence_axis, multiple)
    by_outputs = [(pattern, Cut(sequence_axis, 1)) for pattern in TRANSFORMER_OUTPUTS + MODULATIONS]
    by_inputs = [(pattern, Cut(sequence_axis, 0)) for pattern in TRANSFORMER_INPUTS]
    plan = replace(plan, name=f"{plan.name}-gathered", params=(*plan.params, *by_outputs, *by_inputs))
    return GatheringScheme(plan, gathered_axis=sequence_axis)


def decoder_scheme(name: str) -> GatheringScheme:
    """Return the decoder's plan of this name, with whole activations gathered for each norm."""
    return GatheringScheme(replace(DECODER_PLANS[name], name=f"{name}-gathered"), whole_norms=True)


class _GatheringPartitioner(Partitioner):
    """Gathers a parameter along the scheme's axis anew for each op that uses the parameter."""

    def __init__(self, program: Program, mesh: Mesh, scheme: GatheringScheme) -> None:
        super().__init__(program, mesh, scheme.plan)
        self._axis = scheme.gathered_axis

    def operands(self, op: Op) -> list[Value]:
        return [self._gathered(value) for value in super().operands(op)]

    def _gathered(self, value: Value) -> Value:
        if self._axis is None or value not in self.params or value.type.placements[self._axis] == REPLICATE:
            return value
        target = [REPLICATE if axis == self._axis else p for axis, p in enumerate(value.type.placements)]
        return self.collected(value, tuple(target))


def _whole_group_norm(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Gather what is cut in space, normalise the whole, and keep each device's own part."""
    x, *parameters = operands
    whole = p.reshard(x, whole_along(x.type, HEIGHT, WIDTH, CHANNELS))
    (normed,) = RULES["group_norm"](p, op, [whole, *parameters])
    return [p.reshard(normed, whole_along(x.type, CHANNELS))]
