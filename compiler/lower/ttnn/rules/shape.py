"""Ops that move elements."""

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer, Shape, Tensor
from mochi_aot.compiler.lower.ttnn.rules.table import rule

HEADS_FIRST = [0, 2, 1, 3]
FRAMES = 1  # the dimension of a video [1, T, H, W, C], and of its pixels in groups
TURNED = {Form.NATURAL: Form.HEADS_FIRST, Form.HEADS_FIRST: Form.NATURAL}  # the form after dims HEADS_FIRST


@rule("reshape")
def reshape(lo: Lowerer, op: Op) -> None:
    held = lo.tensors.get(op.operands[0])
    shape = op.result.type.local_shape
    if held is not None and held.form is Form.HEADS_FIRST and _merges_heads(held, shape):
        lo.tensors[op.result] = lo.emit("transformer.concatenate_heads", [held], shape)
        return
    lo.tensors[op.result] = reshaped(lo, lo.get(op.operands[0], None), shape)


def _merges_heads(held: Tensor, shape: Shape) -> bool:
    b, h, n, d = held.shape
    return shape == (b, n, h * d) and d % TILE_SIZE == 0


def reshaped(lo: Lowerer, x: Tensor, shape: Shape) -> Tensor:
    """Return `x` as `shape`: on tiles while the last two dimensions keep their places, otherwise row by row."""
    if x.shape == shape:
        return x
    same_tiles = len(shape) <= 4 and len(x.shape) <= 4 and x.shape[-2:] == shape[-2:]
    small = len(shape) <= 4 and len(x.shape) <= 4 and x.shape[-1] == shape[-1]
    x = x if same_tiles or small else lo.to_layout(x, ROW_MAJOR)
    return lo.emit("reshape", [x], shape, shape=list(shape))


@rule("permute")
def permute(lo: Lowerer, op: Op) -> None:
    dims = ints(op.attrs["dims"])
    held = lo.tensors.get(op.operands[0])
    if held is not None and held.form in TURNED and dims == HEADS_FIRST:
        # [B, N, H, D] held heads first is [B, H, N, D] already, and the other way round: nothing moves.
        lo.tensors[op.result] = held.held_as(TURNED[held.form])
        return
    x = lo.get(op.operands[0], None)
    if len(dims) > 4:
        x = lo.to_layout(x, ROW_MAJOR)
    lo.tensors[op.result] = lo.emit("permute", [x], tuple(x.shape[d] for d in dims), dims=list(dims))


@rule("expand")
def expand(lo: Lowerer, op: Op) -> None:
    x = lo.get(op.operands[0])
    shape = op.result.type.local_shape
    repeats = [wide // n for n, wide in zip(x.shape, shape, strict=True)]
    lo.tensors[op.result] = x if x.shape == shape else lo.emit("repeat", [x], shape, repeat_dims=repeats)


@rule("slice")
def slice_(lo: Lowerer, op: Op) -> None:
    dim, start, stop = (integer(op.attrs[key]) for key in ("dim", "start", "stop"))
    held = lo.held(op.operands[0])
    last = len(op.operands[0].type.shape) - 1
    if (held.form, dim) in ((Form.PACKED, last), (Form.GROUPED, FRAMES)):
        lo.tensors[op.result] = sliced(lo, held, 1, start, stop)
    else:
        lo.tensors[op.result] = sliced(lo, lo.get(op.operands[0], None), dim, start, stop)


def sliced(lo: Lowerer, x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """Return `x`[start:stop] along physical dimension `dim`."""
    if (start, stop) == (0, x.shape[dim]):
        return x
    if x.layout == TILE and dim >= len(x.shape) - 2 and start % TILE_SIZE:
        x = lo.to_layout(x, ROW_MAJOR)
    begins = [start if d == dim else 0 for d in range(len(x.shape))]
    ends = [stop if d == dim else n for d, n in enumerate(x.shape)]
    shape = tuple(stop - start if d == dim else n for d, n in enumerate(x.shape))
    made = lo.emit("slice", [x], shape, slice_start=begins, slice_end=ends)
    return made.like(x)


@rule("concat")
def concat(lo: Lowerer, op: Op) -> None:
    dim = integer(op.attrs["dim"])
    parts = [lo.get(v) for v in op.operands]
    shape = op.result.type.local_shape
    lo.tensors[op.result] = parts[0] if len(parts) == 1 else lo.emit("concat", parts, shape, dim=dim)
