"""Ops that move elements without computing: cuts follow the dimension they belong to."""

import math

from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.rules.table import followed, projected, rule, whole_along

Shape = tuple[int, ...]


def reshape_groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Return the finest groups of dimensions with equal products, ones left out: which part of a reshape turns into
    what."""
    left = [d for d, n in enumerate(source) if n != 1]
    right = [d for d, n in enumerate(target) if n != 1]
    groups = []
    while left:
        old, new = [left.pop(0)], [right.pop(0)]
        while (difference := math.prod(source[d] for d in old) - math.prod(target[d] for d in new)) != 0:
            if difference < 0:
                old.append(left.pop(0))
            else:
                new.append(right.pop(0))
        groups.append((old, new))
    return groups


def reshaped_cut(source: Shape, target: Shape, cut: Shard) -> Shard | None:
    """Return the cut of `target` that holds the same elements as `cut` of `source`, or None if there is none.

    The cut dimension must be the major one of its group, which turns into the group's major one in `target`; a chunk
    must be a whole number of rows of the latter.
    """
    for old, new in reshape_groups(source, target):
        if cut.dim == old[0]:
            elements = cut.chunk * math.prod(source[d] for d in old[1:])
            row = math.prod(target[d] for d in new[1:])
            return None if elements % row else Shard(new[0], elements // row)
    return None


@rule("reshape")
def reshape(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    (x,) = operands
    source, target = x.type.shape, op.result.type.shape
    needs: list[Placement] = []
    gives: list[Placement] = []
    for placement in x.type.placements:
        moved = reshaped_cut(source, target, placement) if isinstance(placement, Shard) else None
        if moved is None and isinstance(placement, Shard):
            _refuse_broken_rows(p, source, target, placement)
        needs.append(placement if moved else REPLICATE)
        gives.append(moved or REPLICATE)
    local = op.result.type.placed(tuple(gives)).local_shape
    return p.emit(op, [p.reshard(x, needs)], gives, {"shape": list(local)})


def _refuse_broken_rows(p: Partitioner, source: Shape, target: Shape, cut: Shard) -> None:
    """Refuse to cut a dimension that splits into several, such as a width into heads, through rows and not between
    them.

    Gathering it instead would be right but undo what the plan is for, in silence.
    """
    for old, new in reshape_groups(source, target):
        parts = [target[d] for d in new]
        if old == [cut.dim] and len(parts) > 1:
            raise p.fail(
                f"{source[cut.dim]} splits into {' x '.join(map(str, parts))}, but pieces of {cut.chunk} are not whole "
                f"rows of {math.prod(parts[1:])}: {parts[0]} does not divide by the devices that share it"
            )


@rule("permute")
def permute(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    x = p.summed(operands[0])
    dims = ints(op.attrs["dims"])
    gives = [Shard(dims.index(c.dim), c.chunk) if isinstance(c, Shard) else c for c in x.type.placements]
    return p.emit(op, [x], gives)


@rule("expand")
def expand(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    (x,) = operands
    shape = op.result.type.shape
    target = followed(shape, operands)
    local = op.result.type.placed(tuple(target)).local_shape
    return p.emit(op, [p.reshard(x, projected(target, shape, x.type.shape))], target, {"shape": list(local)})


@rule("slice")
def slice_(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Shift the pieces of a cut dimension by the slice's start, which comes from the right-hand neighbour."""
    x = p.summed(operands[0])
    dim, start = integer(op.attrs["dim"]), integer(op.attrs["start"])
    axes = x.type.shard_axes(dim)
    if len(axes) > 1 or (axes and start > x.type.local_shape[dim]):
        x, axes = p.reshard(x, whole_along(x.type, dim)), []
    if not axes:
        return p.emit(op, [x], x.type.placements)
    (axis,) = axes
    chunk = x.type.local_shape[dim]
    if start:
        x = exchange_halo(p, x, dim, axis, 0, start)
    return p.emit(op, [x], _with_chunk(x, axis, dim, chunk), {"dim": dim, "start": start, "stop": start + chunk})


def exchange_halo(p: Partitioner, x: Value, dim: int, axis: int, before: int, after: int) -> Value:
    """Return `x` with the neighbours' edges joined on; its type says so by a longer chunk, which only the next op may
    see."""
    size, chunk = x.type.shape[dim], x.type.local_shape[dim]
    attrs = {"dim": dim, "axis": axis, "before": before, "after": after, "size": size, "chunk": chunk}
    type = x.type.placed(tuple(_with_chunk(x, axis, dim, before + chunk + after)))
    (wide,) = p.emit_as("halo_exchange", [x], [type], dict(attrs))
    return wide


def _with_chunk(x: Value, axis: int, dim: int, chunk: int) -> list[Placement]:
    return [Shard(dim, chunk) if a == axis else c for a, c in enumerate(x.type.placements)]


@rule("concat")
def concat(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    dim = integer(op.attrs["dim"])
    largest = max(operands, key=lambda v: v.type.nbytes)
    target = whole_along(largest.type, dim)
    return p.emit(op, [p.reshard(v, target) for v in operands], target)


@rule("select")
def select(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    table, index = operands
    dim = integer(op.attrs["dim"])
    table = p.reshard(table, whole_along(table.type, dim))
    gives = [Shard(c.dim - (c.dim > dim), c.chunk) if isinstance(c, Shard) else c for c in table.type.placements]
    return p.emit(op, [table, p.reshard(index, [REPLICATE, REPLICATE])], gives)


@rule("sum", "mean", "softmax")
def reduce(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    (x,) = operands
    dims = ints(op.attrs["dims"]) if "dims" in op.attrs else [integer(op.attrs["dim"])]
    x = p.reshard(x, whole_along(x.type, *dims))
    dropped = dims if op.attrs.get("keepdim") is False else []

    def follow(cut: Placement) -> Placement:
        return Shard(cut.dim - sum(d < cut.dim for d in dropped), cut.chunk) if isinstance(cut, Shard) else cut

    return p.emit(op, [x], [follow(c) for c in x.type.placements])
