"""Linear layers, products, embeddings and norms over the last dimension."""

from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Partial, Placement, Shard
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.rules.table import followed, projected, released, rule, whole_along


@rule("linear")
def linear(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Let a weight cut by rows (its outputs) cut the result, and one cut by columns (its inputs) leave partial sums.

    A bias is added after partial sums meet, so that it is added once.
    """
    x, weight, *bias = operands
    weight = p.summed(weight)
    last = len(x.type.shape) - 1
    needs, gives = _around_weight(whole_along(x.type, last), weight.type.placements, last)
    bias_needs = [c if isinstance(c, Shard) and c.dim == 0 else REPLICATE for c in weight.type.placements]
    x = p.reshard(x, needs)
    if not any(isinstance(g, Partial) for g in gives):
        return p.emit(op, [x, weight, *(p.reshard(b, bias_needs) for b in bias)], gives)
    (product,) = p.emit(op, [x, weight], gives)
    if not bias:
        return [product]
    total = p.summed(product)
    return p.emit_as("add", [total, p.reshard(bias[0], bias_needs)], [total.type], {})


def _around_weight(
    held: list[Placement], weight: tuple[Placement, ...], last: int
) -> tuple[list[Placement], list[Placement]]:
    """Return what the input of a linear needs and its result has; along axes that cut the weight, `held` gives way."""
    for axis, cut in enumerate(weight):
        if isinstance(cut, Shard):
            held = released(held, axis)
    needs, gives = list(held), list(held)
    for axis, cut in enumerate(weight):
        if isinstance(cut, Shard) and cut.dim == 0:
            gives[axis] = Shard(last, cut.chunk)
        elif isinstance(cut, Shard):
            needs[axis], gives[axis] = Shard(last, cut.chunk), PARTIAL
    return needs, gives


@rule("matmul")
def matmul(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Multiply matrices that are whole; batch dimensions may be cut, alike in both operands."""
    shape = op.result.type.shape
    rank = len(shape)
    target = followed(shape, operands, rank - 1, rank - 2)
    return p.emit(op, [p.reshard(v, projected(target, shape, v.type.shape)) for v in operands], target)


@rule("embedding")
def embedding(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Cut the result as a table is that is cut along its width, and otherwise as the ids are."""
    table, ids = operands
    table = p.reshard(table, whole_along(table.type, 0))
    needs = whole_along(ids.type)
    for axis, cut in enumerate(table.type.placements):
        if isinstance(cut, Shard):
            needs = released(needs, axis)
    last = len(ids.type.shape)
    gives = [
        Shard(last, cut.chunk) if isinstance(cut, Shard) else need
        for cut, need in zip(table.type.placements, needs, strict=True)
    ]
    return p.emit(op, [table, p.reshard(ids, needs)], gives)


@rule("rms_norm")
def rms_norm(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    x, *scale = operands
    shape = x.type.shape
    target = whole_along(x.type, len(shape) - 1)
    placed = [p.reshard(v, projected(target, shape, v.type.shape)) for v in (x, *scale)]
    return p.emit(op, placed, target)
