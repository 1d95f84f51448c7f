"""Walks a partitioned program; each op's rule emits the ttnn calls that do its work on every chip."""

from dataclasses import dataclass

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.artifacts.tiles import device_bytes
from mochi_aot.compiler.ir.last_uses import dead_after
from mochi_aot.compiler.ir.program import Input, Value
from mochi_aot.compiler.ir.types import Shard, TensorType
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Emitted, Lowerer, Tensor, Weight
from mochi_aot.compiler.lower.ttnn.rules import rule_for
from mochi_aot.compiler.lower.ttnn.rules.frames import frames_shape
from mochi_aot.compiler.lower.ttnn.tables import is_table, makes_tables, table_form, to_table
from mochi_aot.compiler.lower.ttnn.traffic import is_collective, sent_bytes
from mochi_aot.compiler.partition.cost import Cost


@dataclass(frozen=True)
class Lowered:
    """A program for ttnn, the weights it reads, in order of first use, and what a chip holds of each numbered value."""

    program: schema.Program
    weights: list[Weight]
    tensors: list[Tensor]


def lower(lowerer: Lowerer, plan: str, cost: Cost) -> Lowered:
    """Lower the whole program. Raise LoweringError where an op cannot be done."""
    inputs = [_input(lowerer, item) for item in lowerer.source.inputs]
    for op in lowerer.source.ops:
        lowerer.loc = op.loc
        if op in lowerer.absorbed:
            continue
        rule = rule_for(op)
        if rule is None:
            raise lowerer.fail(f"{op.opcode} has no ttnn lowering")
        rule(lowerer, op)
    outputs = [_output(lowerer, output.name, output.value) for output in lowerer.source.outputs]
    weights = [weight for weight, _ in lowerer.weights.values()]
    program = schema.Program(
        name=lowerer.source.name,
        mesh=list(lowerer.mesh),
        plan=plan,
        inputs=inputs,
        weights=[
            schema.ProgramWeight(weight.name, tensor.value, weight.dtype, weight.local_shape)
            for weight, tensor in lowerer.weights.values()
        ],
        outputs=outputs,
        instructions=_instructions(lowerer.emitted, {output.value for output in outputs} | _constants(lowerer)),
        stats=_stats(lowerer, cost),
    )
    return Lowered(program, weights, lowerer.made)


def _stats(lowerer: Lowerer, cost: Cost) -> schema.ProgramStats:
    """Return what the calls that run cost: collectives, bytes sent, and weights as a chip holds them, in tiles."""
    sent, counts = 0, dict[str, int]()
    for call in lowerer.emitted:
        if is_collective(call.op):
            sent += sent_bytes(call.op, call.attrs, [lowerer.made[i] for i in call.operands], lowerer.mesh)
            name = call.op.rpartition(".")[2]
            counts[name] = counts.get(name, 0) + 1
    weights = [weight for weight, _ in lowerer.weights.values()]
    held = sum(device_bytes(weight.dtype, weight.local_shape, weight.layout) for weight in weights)
    return schema.ProgramStats(cost.flops, round(held), sent, counts)


def boundary_form(type: TensorType) -> tuple[str, str]:
    """Return the dtype and the layout of a value that passes between programs or to the host.

    Ids and frames are in rows, which is how ttnn looks up and how hosts read. Tables of a row for each step are another
    matter: see tables.py.
    """
    return DTYPES[type.dtype].chip, ROW_MAJOR if type.dtype in ("int32", "uint8") else TILE


def _input(lowerer: Lowerer, item: Input) -> schema.ProgramInput:
    value = item.value
    shape, (dtype, layout) = value.type.local_shape, boundary_form(value.type)
    if value.type.dtype == "uint8":
        shape = frames_shape(shape)
    if is_table(lowerer.source.name, item):
        shape, dtype, layout = table_form(value.type)
    tensor = lowerer.new(shape, dtype, layout)
    lowerer.tensors[value] = tensor
    return schema.ProgramInput(value.name, tensor.value, _spec(value.type, tensor), item.rate)


def _output(lowerer: Lowerer, name: str, value: Value) -> schema.ProgramOutput:
    if makes_tables(lowerer.source.name):
        tensor = to_table(lowerer, lowerer.held(value), table_form(value.type))
    else:
        dtype, layout = boundary_form(value.type)
        tensor = lowerer.to_dtype(lowerer.get(value, layout), dtype)
    return schema.ProgramOutput(name, tensor.value, _spec(value.type, tensor))


def _spec(type: TensorType, tensor: Tensor) -> schema.TensorSpec:
    # A rule may have merged the last dimensions: the last one that is left is longer by a factor.
    rank = len(tensor.shape)
    shape, local = ((*dims, *[1] * rank)[:rank] for dims in (type.shape, type.local_shape))
    factors = [held // n for held, n in zip(tensor.shape, local, strict=True)]
    whole = [n * factor for n, factor in zip(shape, factors, strict=True)]
    placements = [
        schema.Placement(p.dim, p.chunk * factors[p.dim]) if isinstance(p, Shard) else None for p in type.placements
    ]
    return schema.TensorSpec(tensor.dtype, whole, list(tensor.shape), placements, tensor.layout)


def _constants(lowerer: Lowerer) -> set[int]:
    """Return values that instructions do not own: weights."""
    return {tensor.value for _, tensor in lowerer.weights.values()}


def _instructions(emitted: list[Emitted], kept: set[int]) -> list[schema.Instruction]:
    dead = dead_after([[*e.operands, *e.results] for e in emitted], kept)
    return [
        schema.Instruction(e.op, e.operands, e.results, dict(e.attrs), sorted(dying), e.loc)  # type: ignore[arg-type]
        for e, dying in zip(emitted, dead, strict=True)
    ]
