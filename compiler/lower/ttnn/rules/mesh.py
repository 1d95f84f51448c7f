"""Collectives."""

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer, Shape, Tensor
from mochi_aot.compiler.lower.ttnn.rules.shape import sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule

PHYSICAL = (0, 2, 1, 3)  # where a dimension of [B, N, H, D] is when held heads first


def _held(lo: Lowerer, op: Op) -> Tensor:
    """The operand as it is held; a packed one only if the collective is along its last dimension, or along none."""
    value = op.operands[0]
    x = lo.held(value)
    packed_elsewhere = (
        x.form is Form.PACKED and op.attrs.get("dim", len(value.type.shape) - 1) != len(value.type.shape) - 1
    )
    return lo.get(value) if packed_elsewhere else x


def _dim(op: Op, x: Tensor) -> int:
    dim = integer(op.attrs["dim"])
    if x.form is Form.PACKED:
        return 1
    return PHYSICAL[dim] if x.form is Form.HEADS_FIRST else dim


def _resized(x: Tensor, dim: int, size: int) -> Shape:
    return (*x.shape[:dim], size, *x.shape[dim + 1 :])


@rule("shard")
def shard(lo: Lowerer, op: Op) -> None:
    cut(lo, op, _held(lo, op))


def cut(lo: Lowerer, op: Op, x: Tensor) -> None:
    """Of its operand, held as `x`, each chip keeps its piece; zeros follow where there is not enough of it.

    Pieces that are no whole tiles are cut row by row.
    """
    axis, chunk, dim = integer(op.attrs["axis"]), integer(op.attrs["chunk"]), _dim(op, x)
    whole, layout = chunk * lo.mesh[axis], x.layout
    if layout == TILE and dim >= len(x.shape) - 2 and chunk % TILE_SIZE:
        x = lo.to_layout(x, ROW_MAJOR)
    if whole != x.shape[dim]:
        padding = [[0, whole - n if d == dim else 0] for d, n in enumerate(x.shape)]
        padded = lo.emit("pad", [x], _resized(x, dim, whole), padding=padding, value=0.0)
        x = padded.like(x)
    piece = lo.emit("mesh_partition", [x], _resized(x, dim, chunk), dim=dim, axis=axis)
    lo.tensors[op.result] = lo.to_layout(piece.like(x), layout)


@rule("all_gather")
def all_gather(lo: Lowerer, op: Op) -> None:
    if op.operands[0] in lo.params:
        return  # a weight, which the product that reads it gathers in the form that it wants: see linear.py
    x = _held(lo, op)
    axis, size, dim = integer(op.attrs["axis"]), integer(op.attrs["size"]), _dim(op, x)
    whole = x.shape[dim] * lo.mesh[axis]
    gathered = lo.emit("all_gather", [x], _resized(x, dim, whole), dim=dim, axis=axis)
    lo.tensors[op.result] = sliced(lo, gathered.like(x), dim, 0, size)


@rule("all_reduce")
def all_reduce(lo: Lowerer, op: Op) -> None:
    lo.tensors[op.result] = summed(lo, _held(lo, op), integer(op.attrs["axis"]))


def summed(lo: Lowerer, x: Tensor, axis: int) -> Tensor:
    """Return the sum of `x` over the chips of a mesh axis."""
    if lo.sends_rounded and _pieces_are_tiles(lo, x, axis):
        return _reduced_and_sent_rounded(lo, x, axis).like(x)
    return lo.emit("all_reduce", [x], x.shape, axis=axis).like(x)


def _pieces_are_tiles(lo: Lowerer, x: Tensor, axis: int) -> bool:
    return (x.dtype, x.layout) == ("bfloat16", TILE) and x.shape[-1] % (lo.mesh[axis] * TILE_SIZE) == 0


def _reduced_and_sent_rounded(lo: Lowerer, x: Tensor, axis: int) -> Tensor:
    """An all_reduce whose second half sends each sum, made in bfloat16, as bfloat8_b."""
    last = len(x.shape) - 1
    piece = lo.emit("reduce_scatter", [x], _resized(x, last, x.shape[-1] // lo.mesh[axis]), dim=last, axis=axis)
    rounded = lo.to_dtype(piece, "bfloat8_b")
    whole = lo.emit("all_gather", [rounded], x.shape, dim=last, axis=axis)
    return lo.to_dtype(whole, "bfloat16")
