"""Checks that the attributes of collectives agree with the placements of their operands and results."""

from collections.abc import Callable

from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Attrs, Op
from mochi_aot.compiler.ir.text import type_text
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.ir.verify_types import extent

# Local ops that have to know what of their operand [B, T, H, W, C] is padding: the dimensions over which they count.
MASKED_DIMS = {"group_norm_stats": (2, 3), "count_nonfinite": (0, 1, 2, 3, 4)}


def check_collective(op: Op) -> None:
    """Raise ValueError (or KeyError for a missing attribute) for an op of `ops.COLLECTIVES` that is inconsistent.

    Takes the shapes on a device for granted: `ops.infer` checks those.
    """
    axis = integer(op.attrs["axis"])
    _require(axis in (0, 1), f"axis {axis} of a mesh of two")
    CHECKS[op.opcode](op, axis, op.attrs)


def check_valid_ranges(op: Op, mesh: tuple[int, int]) -> None:
    """Check that `valid` of an op of MASKED_DIMS lists [dim, axis, chunk, size] as the operand is placed.

    Dimensions over which the op counts, and whose pieces hold padding, must be listed.
    """
    type = op.operands[0].type
    valid = op.attrs["valid"]
    if not isinstance(valid, list):
        raise ValueError(f"valid is {valid!r}, not a list")
    shards = [(axis, placement) for axis, placement in enumerate(type.placements) if isinstance(placement, Shard)]
    expected = [[p.dim, axis, p.chunk, extent(type, p.dim, axis)] for axis, p in shards]
    for entry in valid:
        _require(entry in expected, f"valid has {entry}, but the operand is {type_text(type)}")
    for entry in expected:
        dim, axis, chunk, size = entry
        padded = dim in MASKED_DIMS[op.opcode] and chunk * mesh[axis] > size
        _require(not padded or entry in valid, f"valid lacks {entry}: the operand {type_text(type)} is padded there")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _placed(type: TensorType, axis: int, placement: Placement, what: str) -> None:
    _require(type.placements[axis] == placement, f"{what} {type_text(type)} is not {placement} on axis {axis}")


def _sharded(type: TensorType, axis: int, dim: int, what: str) -> None:
    placement = type.placements[axis]
    found = isinstance(placement, Shard) and placement.dim == dim
    _require(found, f"{what} {type_text(type)} is not sharded on dim {dim} by axis {axis}")


def _innermost(type: TensorType, axis: int, dim: int) -> None:
    """Check that the axis is the one that cuts last: pieces that another one joins or makes are not contiguous."""
    _require(type.shard_axes(dim)[-1:] == [axis], f"axis {axis} does not cut dim {dim} of {type_text(type)} last")


def _same_elsewhere(op: Op, axis: int) -> None:
    (x,), (y,) = op.operands, op.results
    other = 1 - axis
    kept = x.type.placements[other] == y.type.placements[other]
    _require(kept, f"the placement on axis {other} changes: {type_text(x.type)} to {type_text(y.type)}")


def _same_shape(op: Op, axis: int) -> None:
    (x,), (y,) = op.operands, op.results
    _require(x.type.shape == y.type.shape, f"the global shape changes: {type_text(x.type)} to {type_text(y.type)}")
    _same_elsewhere(op, axis)


def _size(attrs: Attrs, type: TensorType, dim: int, axis: int) -> None:
    size, expected = integer(attrs["size"]), extent(type, dim, axis)
    _require(size == expected, f"size is {size}, but the pieces of {type_text(type)} make {expected}")


def _shard(op: Op, axis: int, attrs: Attrs) -> None:
    source: Placement = PARTIAL if op.opcode == "reduce_scatter" else REPLICATE
    dim, chunk = integer(attrs["dim"]), integer(attrs["chunk"])
    _placed(op.operands[0].type, axis, source, "operand")
    _placed(op.result.type, axis, Shard(dim, chunk), "result")
    _innermost(op.result.type, axis, dim)
    _same_shape(op, axis)


def _all_gather(op: Op, axis: int, attrs: Attrs) -> None:
    dim, x = integer(attrs["dim"]), op.operands[0].type
    _sharded(x, axis, dim, "operand")
    _innermost(x, axis, dim)
    _placed(op.result.type, axis, REPLICATE, "result")
    _size(attrs, x, dim, axis)
    _same_shape(op, axis)


def _all_reduce(op: Op, axis: int, attrs: Attrs) -> None:
    _placed(op.operands[0].type, axis, PARTIAL, "operand")
    _placed(op.result.type, axis, REPLICATE, "result")
    _same_shape(op, axis)


def _all_to_all(op: Op, axis: int, attrs: Attrs) -> None:
    x, y = op.operands[0].type, op.result.type
    gather, split = integer(attrs["gather_dim"]), integer(attrs["split_dim"])
    _require(gather != split, f"gathers and splits dim {gather}")
    _sharded(x, axis, gather, "operand")
    _innermost(x, axis, gather)
    _placed(y, axis, Shard(split, integer(attrs["chunk"])), "result")
    _innermost(y, axis, split)
    _size(attrs, x, gather, axis)
    _same_shape(op, axis)


def _halo_exchange(op: Op, axis: int, attrs: Attrs) -> None:
    x, y = op.operands[0].type, op.result.type
    dim, before, after, chunk = (integer(attrs[k]) for k in ("dim", "before", "after", "chunk"))
    _require(before >= 0 and after >= 0, f"before is {before}, after {after}; a halo has no negative width")
    _placed(x, axis, Shard(dim, chunk), "operand")
    _placed(y, axis, Shard(dim, before + chunk + after), "result")
    _require(x.shard_axes(dim) == [axis], f"both axes cut dim {dim} of {type_text(x)}")
    _size(attrs, x, dim, axis)
    _same_elsewhere(op, axis)


def _ring_joint_attention(op: Op, axis: int, attrs: Attrs) -> None:
    q, text, mask = op.operands[0].type, op.operands[3].type, op.operands[6].type
    for value in op.operands[:3]:
        _require(value.type == q, f"q, k and v differ: {type_text(q)} and {type_text(value.type)}")
    for value in op.operands[3:6]:
        _require(value.type == text, f"q, k and v of the text differ: {type_text(text)} and {type_text(value.type)}")
    _placed(q, axis, Shard(1, integer(attrs["chunk"])), "operand")
    _placed(text, axis, REPLICATE, "text operand")
    _placed(mask, axis, REPLICATE, "mask")
    _require(q.shard_axes(1) == [axis], f"both axes cut dim 1 of {type_text(q)}, the ring has one")
    _size(attrs, q, 1, axis)
    results = [value.type for value in op.results]
    _require(results == [q, text], "results are not typed as q and q_text")


CHECKS: dict[str, Callable[[Op, int, Attrs], None]] = {
    "shard": _shard,
    "reduce_scatter": _shard,
    "all_gather": _all_gather,
    "all_reduce": _all_reduce,
    "all_to_all": _all_to_all,
    "halo_exchange": _halo_exchange,
    "ring_joint_attention": _ring_joint_attention,
}
