"""Counts the numbers of a video that are none."""

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.rules.frames import flat
from mochi_aot.compiler.lower.ttnn.rules.table import rule

# A video's numbers are about -1 to 1. What chips make of NaN and infinities in a product is finite: their matrix units
# take either for an ordinary number of some 2^128, times the other operand.
LARGEST = 2.0**40


@rule("count_nonfinite")
def count_nonfinite(lo: Lowerer, op: Op) -> None:
    """Sum ones where a number is not what it becomes between bounds: NaN, infinities, and what chips make of them.

    Sums round, but one of zeros and ones is zero only where all are. Padding in time counts too: it comes after the
    video and is made of it and of zeros, by the same ops, so it is finite where the video is.
    """
    video, *before = op.operands
    x = flat(lo, video)
    _, frames, _, channels = x.shape
    bounded = lo.emit("clamp", [x], x.shape, min=-LARGEST, max=LARGEST)
    strange = lo.emit("eq", [lo.emit("eq", [bounded, x], x.shape)], x.shape, value=0.0)
    by_frame = lo.emit("sum", [strange], (1, frames, 1, channels), dim=2, keepdim=True, compute="hifi4")
    # Frames become the rows of tiles, which would otherwise have one row each.
    rows = lo.emit("reshape", [by_frame], (1, 1, frames, channels), shape=[1, 1, frames, channels])
    count = lo.emit("sum", [rows], (1, 1, 1, 1), dim=[2, 3], keepdim=True, compute="hifi4")
    count = lo.to_dtype(lo.emit("reshape", [count], (1, 1), shape=[1, 1]), "float32")
    for earlier in before:
        count = lo.emit("add", [lo.tensors[earlier], count], (1, 1), dtype="float32")
    lo.tensors[op.result] = count
