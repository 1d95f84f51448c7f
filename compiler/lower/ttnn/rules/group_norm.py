"""Group norm of videos, each frame by itself, with a frame's pixels spread over chips.

ttnn's own distributed group norm takes one frame at a time and pieces of whole tiles alone, so this is made of smaller
ops. Each chip reduces its pixels to a mean and a variance for each frame and channel; these are gathered, and joined by
Chan's formula, which for parts of equal size is: the variance of the whole is the mean of the parts' variances plus the
mean of their means' squared distances from the mean of the whole. Channels of a group are parts like those of chips.
"""

import numpy as np

from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import NONZERO_ROW, ROW
from mochi_aot.compiler.lower.ttnn.rules.frames import flat
from mochi_aot.compiler.lower.ttnn.rules.shape import sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule

PARTS = (0, 1)  # dimensions of gathered statistics along which there is a part for each chip of a mesh axis


@rule("group_norm_stats")
def group_norm_stats(lo: Lowerer, op: Op) -> None:
    valid = op.attrs["valid"]
    assert isinstance(valid, list)
    for dim, axis, chunk, size in valid:  # type: ignore[misc]  # four integers each
        if chunk * lo.mesh[axis] != size:
            raise lo.fail(f"pieces of {chunk} do not divide dimension {dim}, {size} long; choose another plan")
    lo.tensors[op.result] = _statistics(lo, op.operands[0])


def _statistics(lo: Lowerer, value: Value) -> Tensor:
    """Return [1, 1, T, 2 C]: for each frame the means of its channels, then their variances."""
    x = flat(lo, value)
    _, frames, _, channels = x.shape
    reduced = (1, frames, 1, channels)
    mean = lo.emit("mean", [x], reduced, dim=2, keepdim=True, compute="hifi4")
    variance = lo.emit("var", [x], reduced, dim=2, keepdim=True, correction=False, compute="hifi4")
    both = lo.emit("concat", [mean, variance], (1, frames, 1, 2 * channels), dim=3)
    # Frames become the rows of tiles, which would otherwise have one row each.
    shape = (1, 1, frames, 2 * channels)
    return lo.emit("reshape", [both], shape, shape=list(shape))


@rule("group_norm_apply")
def group_norm_apply(lo: Lowerer, op: Op) -> None:
    _, stats, weight, bias = op.operands
    _apply(lo, op, lo.tensors[stats], [weight, bias], groups=stats.type.local_shape[4])


@rule("group_norm")
def group_norm(lo: Lowerer, op: Op) -> None:
    """Do the same on whole frames: there is one part."""
    x, weight, bias = op.operands
    _apply(lo, op, _statistics(lo, x), [weight, bias], groups=integer(op.attrs["groups"]))


def _apply(lo: Lowerer, op: Op, stats: Tensor, parameters: list[Value], groups: int) -> None:
    """Emit silu((x + shift) * scale), without the silu where none follows.

    Adding before scaling keeps what bfloat16 rounds off in proportion to the result, however far from zero the mean is.
    """
    x = flat(lo, op.operands[0])
    shift, scale = _shift_and_scale(lo, op, stats, parameters, groups)
    moved = lo.emit("add", [x, shift], x.shape, dtype=x.dtype)
    silu = lo.only_user(op.result)
    after: list[str] = []
    if silu is not None and silu.opcode == "silu":
        after = ["silu"]
        lo.absorbed.add(silu)
        op = silu
    made = lo.emit("multiply", [moved, scale], x.shape, dtype=x.dtype, activations=after)  # type: ignore[arg-type]
    lo.tensors[op.result] = made.like(x)


def _shift_and_scale(lo: Lowerer, op: Op, stats: Tensor, parameters: list[Value], groups: int) -> tuple[Tensor, Tensor]:
    """Return float32 [1, T, 1, C] each, from gathered statistics [P0, P1, T, 2 C]."""
    stats = lo.to_dtype(stats, "float32")
    channels = stats.shape[3] // 2
    row = (1, 1, stats.shape[2], channels)
    means, variances = (sliced(lo, stats, 3, start, start + channels) for start in (0, channels))
    average = lo.constant(f"group_average.{groups}", group_average(channels, groups))
    mean = _averaged(lo, means, average)
    distance = lo.emit("square", [lo.emit("subtract", [means, mean], means.shape)], means.shape)
    variance = _averaged(lo, lo.emit("add", [variances, distance], means.shape), average)
    deviation = lo.emit("rsqrt", [lo.emit("add", [variance], row, value=op.attrs["eps"])], row)
    weight = lo.weight(parameters[0], NONZERO_ROW, dtype="float32", shape=(1, channels))
    bias = lo.weight(parameters[1], ROW, dtype="float32", shape=(1, channels))
    scale = lo.emit("multiply", [deviation, weight], row)
    shift = lo.emit("subtract", [lo.emit("divide", [bias, scale], row), mean], row)
    shape = (1, row[2], 1, channels)
    return lo.emit("reshape", [shift], shape, shape=list(shape)), lo.emit("reshape", [scale], shape, shape=list(shape))


def _averaged(lo: Lowerer, parts: Tensor, average: Tensor) -> Tensor:
    """Return the mean over chips and over each group's channels, for every channel: [1, 1, T, C]."""
    shape = (1, 1, *parts.shape[2:])
    dims = [dim for dim in PARTS if parts.shape[dim] > 1]
    if dims:
        parts = lo.emit("mean", [parts], shape, dim=dims, keepdim=True, compute="hifi4")
    return lo.emit("matmul", [parts, average], shape, compute="hifi4")


def group_average(channels: int, groups: int) -> np.ndarray:
    """Return float32 [C, C]: a row times it is each channel's group average."""
    width = channels // groups
    block = np.full((width, width), 1 / width, np.float32)
    return np.kron(np.eye(groups, dtype=np.float32), block)
