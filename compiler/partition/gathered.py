"""Weights of which each device along a mesh axis keeps a part, and which are gathered where they are used.

Fully sharded data parallelism (Zhao et al., PyTorch FSDP, 2023): memory is saved at the price of the parts' bytes on
the links in each run, and no product changes.
"""

from fnmatch import fnmatchcase

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import VALUES, Checkpoint, Concat, Op, Program, Quantised, Recipe, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Cut, Plan

LOC = "gathered weight"


def gather_at_use(program: Program, plan: Plan) -> Program:
    """Return a partitioned program with the weights that `plan.gathered` names cut at rest, and each gathered before
    every op that reads it.

    A weight stays as it is where the axis has one device, where it is cut already, and where its pieces would not be
    whole multiples.
    """
    assert program.mesh is not None
    builder = Builder(program.name, program.mesh)
    values: dict[Value, Value] = {}
    cuts: dict[Value, Cut] = {}
    for item in program.inputs:
        values[item.value] = builder.input(item.value.name, item.value.type, item.rate)
    for param in program.params:
        cut = _cut(param.recipe, param.value.type, plan, program.mesh)
        recipe, type = param.recipe, param.value.type
        if cut is not None:
            cuts[param.value] = cut
            recipe, type = _placed(recipe, type, _placements(type, cut, program.mesh))
        values[param.value] = builder.param(param.value.name, type, recipe)
    for op in program.ops:
        _copy(builder, op, values, cuts)
    for output in program.outputs:
        builder.output(output.name, values[output.value])
    return builder.program


def _copy(builder: Builder, op: Op, values: dict[Value, Value], cuts: dict[Value, Cut]) -> None:
    operands = {value: values[value] for value in op.operands}
    for value in operands:
        if value in cuts:
            attrs = {"axis": cuts[value].axis, "dim": cuts[value].dim, "size": value.type.shape[cuts[value].dim]}
            (operands[value],) = builder.emit_typed("all_gather", [values[value]], [value.type], dict(attrs), LOC)
    builder.copy_op(op, operands)
    values.update((result, operands[result]) for result in op.results)


def _cut(recipe: Recipe, type: TensorType, plan: Plan, mesh: Mesh) -> Cut | None:
    """Return how a parameter is cut at rest: as the first pattern says that all its parts match."""
    if any(placement != REPLICATE for placement in type.placements):
        return None
    for pattern, cut in plan.gathered:
        pieces = mesh[cut.axis]
        if pieces > 1 and _matches(recipe, pattern) and type.shape[cut.dim] % (pieces * cut.multiple) == 0:
            return cut
    return None


def _matches(recipe: Recipe, pattern: str) -> bool:
    if isinstance(recipe, Concat):
        return all(_matches(part, pattern) for part, _ in recipe.parts)
    if isinstance(recipe, Quantised) and recipe.part != VALUES:
        return False
    return isinstance(recipe, Checkpoint | Quantised) and fnmatchcase(recipe.name, pattern)


def _placements(type: TensorType, cut: Cut, mesh: Mesh) -> tuple[Placement, ...]:
    piece = Shard(cut.dim, type.shape[cut.dim] // mesh[cut.axis])
    return tuple(piece if axis == cut.axis else placement for axis, placement in enumerate(type.placements))


def _placed(recipe: Recipe, type: TensorType, placements: tuple[Placement, ...]) -> tuple[Recipe, TensorType]:
    """Parts that are joined along another dimension are cut alike."""
    if isinstance(recipe, Concat):
        parts = tuple(_placed(part, part_type, placements) for part, part_type in recipe.parts)
        recipe = Concat(parts, recipe.dim)
    return recipe, type.placed(placements)
