"""Convolutions and group norms on [B, T, H, W, C], cut along time, height or width."""

from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Attr, Op, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.ir.verify_types import extent
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.rules.shape import exchange_halo
from mochi_aot.compiler.partition.rules.table import rule, whole_along

TIME, HEIGHT, WIDTH, CHANNELS = 1, 2, 3, 4
NAMES = {TIME: "time", HEIGHT: "height", WIDTH: "width"}
WHOLE = [REPLICATE, REPLICATE]


@rule("causal_conv3d")
def causal_conv3d(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Exchange halos along a cut dimension instead of padding; the convolution itself then pads nothing there."""
    x, *parameters = operands
    x = p.reshard(x, whole_along(x.type, CHANNELS))
    _check_cut_once(p, x)
    parameters = [p.reshard(v, WHOLE) for v in parameters]
    kernel, stride = parameters[0].type.shape[2:], ints(op.attrs["stride"])
    padding = list(ints(op.attrs["padding"]))
    gives: list[Placement] = list(x.type.placements)
    for axis, cut in enumerate(x.type.placements):
        if isinstance(cut, Shard) and cut.dim in NAMES:
            k, s, before = kernel[cut.dim - TIME], stride[cut.dim - TIME], _take_padding(padding, cut.dim)
            _check_cut(p, cut, s, max(before, k - s - before))
            gives[axis] = Shard(cut.dim, cut.chunk // s)
            if before or k - s - before > 0:
                x = exchange_halo(p, x, cut.dim, axis, before, max(0, k - s - before))
    return p.emit(op, [x, *parameters], gives, {**op.attrs, "padding": padding})


def _take_padding(padding: list[int], dim: int) -> int:
    """Take the padding in front of `dim`, which the halo replaces: both sides are set to zero."""
    front = {TIME: 0, HEIGHT: 1, WIDTH: 3}[dim]
    before, padding[front] = padding[front], 0
    if dim != TIME:
        padding[front + 1] = 0
    return before


def _check_cut_once(p: Partitioner, x: Value) -> None:
    for dim, name in NAMES.items():
        if len(x.type.shard_axes(dim)) > 1:
            raise p.fail(f"the {name} is cut along both mesh axes; a halo goes along one")


def _check_cut(p: Partitioner, cut: Shard, stride: int, halo: int) -> None:
    name = NAMES[cut.dim]
    if cut.chunk % stride:
        raise p.fail(f"pieces of {cut.chunk} along {name} do not divide by the stride {stride}")
    if halo > cut.chunk:
        raise p.fail(f"a piece of {cut.chunk} along {name} is shorter than the halo of {halo}; cut it less often")


@rule("group_norm")
def group_norm(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Cut in space, each device counts, averages and sums squares over its own part; only those travel."""
    x, *parameters = operands
    x = p.reshard(x, whole_along(x.type, CHANNELS))
    _check_cut_once(p, x)
    parameters = [p.reshard(v, WHOLE) for v in parameters]
    cuts = {a: c for a, c in enumerate(x.type.placements) if isinstance(c, Shard) and c.dim in (HEIGHT, WIDTH)}
    if not cuts:
        return p.emit(op, [x, *parameters], x.type.placements)
    stats = _statistics(p, x, cuts, integer(op.attrs["groups"]))
    attrs: dict[str, Attr] = {"eps": op.attrs["eps"]}
    return p.emit_as("group_norm_apply", [x, stats, *parameters], [op.result.type.placed(x.type.placements)], attrs)


def _statistics(p: Partitioner, x: Value, cuts: dict[int, Shard], groups: int) -> Value:
    """Return the gathered [P0, P1, B, T, G, 3] statistics of all spatial parts."""
    parts = [p.mesh[axis] if axis in cuts else 1 for axis in range(2)]
    # Batch and time are dimensions 2 and 3 of the statistics; a part is a row of dimension `axis`.
    placements: list[Placement] = [
        Shard(axis, 1) if axis in cuts else Shard(c.dim + 2, c.chunk) if isinstance(c, Shard) else REPLICATE
        for axis, c in enumerate(x.type.placements)
    ]
    shape = (*parts, *x.type.shape[:2], groups, 3)
    valid = [[c.dim, axis, c.chunk, x.type.shape[c.dim]] for axis, c in cuts.items()]
    type = TensorType(shape, "float32", tuple(placements))
    (stats,) = p.emit_as("group_norm_stats", [x], [type], {"groups": groups, "valid": valid})
    return p.reshard(stats, [REPLICATE if axis in cuts else c for axis, c in enumerate(placements)])


@rule("count_nonfinite")
def count_nonfinite(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Count on each device what it holds; nothing travels: along an axis that cuts, there is one count per device."""
    x, before = p.summed(operands[0]), operands[1:]
    cuts = {axis: cut for axis, cut in enumerate(x.type.placements) if isinstance(cut, Shard)}
    shape = tuple(p.mesh[axis] if axis in cuts else 1 for axis in range(2))
    type = TensorType(shape, "float32", tuple(Shard(axis, 1) if axis in cuts else REPLICATE for axis in range(2)))
    valid = [[cut.dim, axis, cut.chunk, extent(x.type, cut.dim, axis)] for axis, cut in cuts.items()]
    return p.emit_as("count_nonfinite", [x, *before], [type], {"valid": valid})
