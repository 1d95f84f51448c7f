"""Collectives."""

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer, Shape, Tensor
from mochi_aot.compiler.lower.ttnn.rules.attention import heads_first
from mochi_aot.compiler.lower.ttnn.rules.shape import sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule

PHYSICAL = (0, 2, 1, 3)  # where a dimension of [B, N, H, D] is when held heads first
TOKENS = 2  # of [B, H, N, D]


def _held(lo: Lowerer, op: Op) -> Tensor:
    """Return the operand as it is held; a packed one only if the collective is along its last dimension, or along
    none."""
    value = op.operands[0]
    x = lo.held(value)
    packed_elsewhere = (
        x.form is Form.PACKED and op.attrs.get("dim", len(value.type.shape) - 1) != len(value.type.shape) - 1
    )
    return lo.get(value) if packed_elsewhere else x


def _dim(op: Op, x: Tensor, name: str = "dim") -> int:
    dim = integer(op.attrs[name])
    if x.form is Form.PACKED:
        return 1
    return PHYSICAL[dim] if x.form is Form.HEADS_FIRST else dim


def _resized(x: Tensor | Shape, dim: int, size: int) -> Shape:
    shape = x.shape if isinstance(x, Tensor) else x
    return (*shape[:dim], size, *shape[dim + 1 :])


@rule("shard")
def shard(lo: Lowerer, op: Op) -> None:
    cut(lo, op, _held(lo, op))


def cut(lo: Lowerer, op: Op, x: Tensor) -> None:
    """Keep each chip's piece of its operand, held as `x`; zeros follow where there is not enough of it.

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


@rule("all_to_all")
def all_to_all(lo: Lowerer, op: Op) -> None:
    """Emit one call for tensors [B, N, H, D], which chips hold heads first.

    ttnn's op cuts what divides into equal pieces, along any two dimensions; tokens, in tiles, in whole tiles.
    """
    x = heads_first(lo, op.operands[0])
    axis, size, chunk = (integer(op.attrs[name]) for name in ("axis", "size", "chunk"))
    gathered, cut_dim = _dim(op, x, "gather_dim"), _dim(op, x, "split_dim")
    whole = x.shape[gathered] * lo.mesh[axis]
    if whole != size or x.shape[cut_dim] != chunk * lo.mesh[axis]:
        raise lo.fail(f"an all_to_all of {list(x.shape)} over {lo.mesh[axis]} chips, in which pieces are not all equal")
    if any(n % TILE_SIZE for n, dim in ((x.shape[gathered], gathered), (chunk, cut_dim)) if dim == TOKENS):
        raise lo.fail(f"an all_to_all of {list(x.shape)} whose pieces are no whole tiles of {TILE_SIZE} tokens")
    shape = _resized(_resized(x, gathered, whole), cut_dim, chunk)
    made = lo.emit("experimental.all_to_all_async_generic", [x], shape, in_dim=gathered, out_dim=cut_dim, axis=axis)
    lo.tensors[op.result] = made.like(x)


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
    """Emit an all_reduce whose second half sends each sum, made in bfloat16, as bfloat8_b."""
    last = len(x.shape) - 1
    piece = lo.emit("reduce_scatter", [x], _resized(x, last, x.shape[-1] // lo.mesh[axis]), dim=last, axis=axis)
    rounded = lo.to_dtype(piece, "bfloat8_b")
    whole = lo.emit("all_gather", [rounded], x.shape, dim=last, axis=axis)
    return lo.to_dtype(whole, "bfloat16")
