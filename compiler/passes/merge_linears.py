"""Joins linear layers that read the same value into one wider product, cut apart afterwards.

Runs on partitioned programs: each device joins the rows that it holds, so heads and hidden units stay where the
partitioner put them, and a matrix engine sees one large product instead of several small ones.
"""

from mochi_aot.compiler.ir.builder import Builder, copy_signature
from mochi_aot.compiler.ir.program import Concat, Op, Param, Program, Value
from mochi_aot.compiler.ir.types import Placement, Shard, TensorType
from mochi_aot.compiler.passes.dce import eliminate_dead_code

MAX_MERGED_BYTES = 256 << 20  # a device's part of one joined weight: loading streams in pieces of at most this

Group = list[Op]


def merge_linears(program: Program) -> Program:
    """Return `program` with each group of mergeable linears replaced by one linear and slices of its result."""
    params = {param.value: param for param in program.params}
    groups = {op: group for group in linear_groups(program) for op in group}
    builder = Builder(program.name, program.mesh)
    values = copy_signature(program, builder)
    joined: dict[tuple[Value, ...], Value] = {}
    for op in program.ops:
        if op not in groups:
            builder.copy_op(op, values)
        elif op is groups[op][0]:
            for members in list(zip(*(member.operands for member in groups[op]), strict=True))[1:]:
                if members not in joined:
                    joined[members] = _joined_param(builder, [params[v] for v in members], len(joined))
            _emit_merged(builder, values, groups[op], joined)
    for output in program.outputs:
        builder.output(output.name, values[output.value])
    return eliminate_dead_code(builder.program)


def linear_groups(program: Program) -> list[Group]:
    """Return the linears of the same operand, with parameters cut alike, in order; each group is within
    MAX_MERGED_BYTES."""
    params = {param.value for param in program.params}
    open_groups: dict[object, Group] = {}
    closed: list[Group] = []
    for op in program.ops:
        if op.opcode != "linear" or not params.issuperset(op.operands[1:]):
            continue
        key = (op.operands[0], *(_cuts(value.type) for value in op.operands[1:]))
        group = open_groups.setdefault(key, [])
        if group and sum(member.operands[1].type.local_nbytes for member in [*group, op]) > MAX_MERGED_BYTES:
            closed.append(group)
            group = open_groups[key] = []
        group.append(op)
    return [group for group in [*closed, *open_groups.values()] if len(group) > 1]


def _cuts(type: TensorType) -> object:
    """Return what types must share to be joined: the axes that cut them, and how many minor pieces a major one has."""
    shards = [(axis, p) for axis, p in enumerate(type.placements) if isinstance(p, Shard)]
    nested = len(shards) == 2 and shards[0][1].dim == shards[1][1].dim
    minor_pieces = shards[0][1].chunk / shards[1][1].chunk if nested else 0
    return (type.dtype, tuple((axis, p.dim) for axis, p in shards), minor_pieces)


def _joined_param(builder: Builder, members: list[Param], index: int) -> Value:
    recipe = Concat(tuple((member.recipe, member.value.type) for member in members), 0)
    type = _joined_type([member.value.type for member in members], 0)
    return builder.param(f"{members[0].value.name}.joined_{index}", type, recipe)


def _emit_merged(
    builder: Builder, values: dict[Value, Value], group: Group, joined: dict[tuple[Value, ...], Value]
) -> None:
    x, *parameters = zip(*(op.operands for op in group), strict=True)
    dim = len(x[0].type.shape) - 1
    type = _joined_type([op.result.type for op in group], dim)
    operands = [values[x[0]], *(joined[members] for members in parameters)]
    (wide,) = builder.emit_typed("linear", operands, [type], {}, group[0].loc)
    start = 0
    for op in group:
        stop = start + op.result.type.local_shape[dim]
        attrs = {"dim": dim, "start": start, "stop": stop}
        (values[op.result],) = builder.emit_typed("slice", [wide], [op.result.type], dict(attrs), op.loc)
        start = stop


def _joined_type(types: list[TensorType], dim: int) -> TensorType:
    """Return the types side by side along `dim`, cut by the same axes: global extents add up, and so do chunks."""
    first = types[0]

    def joined(axis: int, placement: Placement) -> Placement:
        chunks = [p.chunk for p in (type.placements[axis] for type in types) if isinstance(p, Shard) and p.dim == dim]
        return Shard(dim, sum(chunks)) if chunks else placement

    placements = tuple(joined(axis, placement) for axis, placement in enumerate(first.placements))
    size = sum(type.shape[dim] for type in types)
    return TensorType((*first.shape[:dim], size, *first.shape[dim + 1 :]), first.dtype, placements)
