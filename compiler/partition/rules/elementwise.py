"""Elementwise ops: all operands follow the cuts of the largest operand that is cut."""

from mochi_aot.compiler.ir.ops import ELEMENTWISE
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.partition.partitioner import Partitioner
from mochi_aot.compiler.partition.rules.table import followed, projected, rule


@rule(*ELEMENTWISE - {"annotate"})
def elementwise(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    shape = op.result.type.shape
    target = followed(shape, operands)
    placed = [p.reshard(v, projected(target, shape, v.type.shape)) for v in operands]
    return p.emit(op, placed, target)


@rule("annotate")
def annotate(p: Partitioner, op: Op, operands: list[Value]) -> list[Value]:
    """Move the value where the plan wants it; the op itself disappears."""
    (value,) = operands
    wanted = p.annotated(str(op.attrs["name"]), value.type.shape)
    return [value if wanted is None else p.reshard(value, wanted)]
