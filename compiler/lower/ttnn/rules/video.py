"""Rules for videos [1, T, H, W, C]: convolutions, halos, products at every pixel, and frames for the host."""

import math

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import CONV3D, ROW, TRANSPOSED, Preparation, unfolded_by, unfolded_row_by
from mochi_aot.compiler.lower.ttnn.prepare_video import conv_blocks
from mochi_aot.compiler.lower.ttnn.rules.frames import flat, frames_shape, is_video, rows
from mochi_aot.compiler.lower.ttnn.rules.mesh import cut
from mochi_aot.compiler.lower.ttnn.rules.pixels import grouped_product
from mochi_aot.compiler.lower.ttnn.rules.shape import sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule, rule_where
from mochi_aot.compiler.lower.ttnn.rules.time_attention import time_attention

TIME, COLOURS = 1, 4
DEPTH_TO_SPACE = [0, 1, 5, 2, 6, 3, 7, 4]  # [1, T, H, W, C, t, s, s] -> [1, T, t, H, s, W, s, C]


@rule("halo_exchange")
def halo_exchange(lo: Lowerer, op: Op) -> None:
    """Exchange borders; two exchanges in space, one after the other, are one call.

    A chip at the edge of the mesh repeats its own border, so a cut in space must leave no padding there. Padding in
    time does no harm: convolutions look back, and the slice that looks ahead cuts off as much as it reads.
    """
    last = _next_in_space(lo, op) or op
    halos = sorted({op, last}, key=lambda halo: integer(halo.attrs["dim"]))
    for halo in halos:
        dim, axis, chunk, size = (integer(halo.attrs[key]) for key in ("dim", "axis", "chunk", "size"))
        if dim != TIME and chunk * lo.mesh[axis] != size:
            raise lo.fail(f"pieces of {chunk} do not divide dimension {dim}, {size} long; choose another plan")
    lo.tensors[last.result] = lo.emit(
        "experimental.neighbor_pad_async",
        [rows(lo, op.operands[0])],
        last.result.type.local_shape,
        dim=[integer(halo.attrs["dim"]) for halo in halos],
        padding_left=[integer(halo.attrs["before"]) for halo in halos],
        padding_right=[integer(halo.attrs["after"]) for halo in halos],
        padding_mode="replicate",
        axis=[integer(halo.attrs["axis"]) for halo in halos],
    )
    lo.absorbed.add(last)


def _next_in_space(lo: Lowerer, op: Op) -> Op | None:
    """Return the halo in space that follows one in space, if that is all that reads it."""
    user = lo.only_user(op.result)
    if user is None or user.opcode != "halo_exchange" or TIME in (op.attrs["dim"], user.attrs["dim"]):
        return None
    return user


@rule("causal_conv3d")
def causal_conv3d(lo: Lowerer, op: Op) -> None:
    value, weight, *bias = op.operands
    front, top, bottom, left, right = ints(op.attrs["padding"])
    outputs, inputs, *kernel = weight.type.shape
    if top != bottom or left != right:
        raise lo.fail(f"padding {op.attrs['padding']} is not the same on both sides in space")
    if inputs % TILE_SIZE or outputs % TILE_SIZE:
        raise lo.fail(f"a convolution of {inputs} to {outputs} channels, which are not multiples of {TILE_SIZE}")
    _, *size, _ = op.result.type.local_shape
    blocks = conv_blocks(inputs, outputs)
    prepared = lo.weight(weight, CONV3D, dtype="bfloat16", shape=(inputs * math.prod(kernel), outputs))
    lo.tensors[op.result] = lo.emit(
        "experimental.conv3d",
        [_with_front(lo, rows(lo, value), front), prepared, *_biases(lo, op, ROW)],
        op.result.type.local_shape,
        kw=["bias_tensor"] * len(bias),  # type: ignore[arg-type]  # a list of names
        output_channels=outputs,
        kernel_size=list(kernel),
        stride=op.attrs["stride"],
        padding=[0, top, left],
        padding_mode="replicate",
        c_in_block=blocks.inputs,
        program_config=[blocks.outputs, *map(min, (blocks.frames, blocks.height, blocks.width), size)],
        compute=lo.fidelity,
    )


def _with_front(lo: Lowerer, x: Tensor, count: int) -> Tensor:
    """Return `x` with `count` copies of its first frame in front, where time is not cut and has no halo."""
    if not count:
        return x
    first = sliced(lo, x, TIME, 0, 1)
    shape = (x.shape[0], x.shape[TIME] + count, *x.shape[2:])
    return lo.emit("concat", [*[first] * count, x], shape, dim=TIME)


@rule_where("add", lambda op: all(is_video(v) and v.type == op.result.type for v in op.operands))
def add(lo: Lowerer, op: Op) -> None:
    a, b = (flat(lo, v) for v in op.operands)
    lo.tensors[op.result] = lo.emit("add", [a, b], a.shape, dtype=a.dtype).like(a)


@rule_where("concat", lambda op: is_video(op.result) and op.attrs["dim"] == TIME)
def frames_after_frames(lo: Lowerer, op: Op) -> None:
    parts = [rows(lo, v) for v in op.operands]
    lo.tensors[op.result] = lo.emit("concat", parts, op.result.type.local_shape, dim=TIME)


@rule_where("shard", lambda op: is_video(op.result) and op.attrs["dim"] != COLOURS)
def piece_of_video(lo: Lowerer, op: Op) -> None:
    """Cut a video row by row: tiles can be cut between tiles only."""
    cut(lo, op, rows(lo, op.operands[0]))


@rule_where("silu", lambda op: is_video(op.result))
def silu(lo: Lowerer, op: Op) -> None:
    x = flat(lo, op.operands[0])
    lo.tensors[op.result] = lo.emit("silu", [x], x.shape).like(x)


@rule_where("linear", lambda op: is_video(op.result))
def linear(lo: Lowerer, op: Op) -> None:
    """Emit a product at every pixel.

    One that is unfolded in time and space makes its outputs in another order, in which the channels of a new pixel lie
    together.
    """
    if grouped_product(lo, op) or time_attention(lo, op):
        return
    unfolding = _unfolding(lo, op)
    if unfolding is None:
        lo.tensors[op.result] = _product(lo, op, TRANSPOSED, ROW)
        return
    reshape, _, last = unfolding
    *grid, channels, time, height, width = reshape.result.type.local_shape
    factor = time * height * width
    product = lo.to_layout(_product(lo, op, unfolded_by(factor), unfolded_row_by(factor)), ROW_MAJOR)
    split = (*grid, time, height, width, channels)
    pixels = lo.emit("reshape", [product], split, shape=list(split))
    dims = [0, 1, 4, 2, 5, 3, 6, 7]
    placed = lo.emit("permute", [pixels], tuple(split[d] for d in dims), dims=dims)
    shape = last.result.type.local_shape
    lo.tensors[last.result] = lo.emit("reshape", [placed], shape, shape=list(shape))
    lo.absorbed.update(unfolding)


def _unfolding(lo: Lowerer, op: Op) -> tuple[Op, Op, Op] | None:
    """Return the reshape, permute and reshape that turn channels into pixels, if they are what follows."""
    reshape = lo.only_user(op.result)
    permute = lo.only_user(reshape.result) if reshape is not None else None
    last = lo.only_user(permute.result) if permute is not None else None
    if reshape is None or permute is None or last is None:
        return None
    same = [o.opcode for o in (reshape, permute, last)] == ["reshape", "permute", "reshape"]
    return (reshape, permute, last) if same and permute.attrs["dims"] == DEPTH_TO_SPACE else None


def _product(lo: Lowerer, op: Op, prepare_weight: Preparation, prepare_bias: Preparation) -> Tensor:
    """Emit the product, flat. A video autoencoder's weights are few, and stay in bfloat16 whatever the others are."""
    value, weight, *bias = op.operands
    x = flat(lo, value)
    outputs, inputs = weight.type.shape
    prepared = lo.weight(weight, prepare_weight, dtype="bfloat16", shape=(inputs, outputs))
    made = lo.emit(
        "experimental.minimal_matmul",
        [x, prepared, *_biases(lo, op, prepare_bias)],
        (*x.shape[:-1], outputs),
        kw=["bias_tensor"] * len(bias),  # type: ignore[arg-type]  # a list of names
        compute=lo.fidelity,
    )
    return made.like(x)


def _biases(lo: Lowerer, op: Op, preparation: Preparation) -> list[Tensor]:
    """Return the third operand, a row, if there is one."""
    return [lo.weight(b, preparation, dtype="bfloat16", shape=(1, *b.type.shape)) for b in op.operands[2:]]


@rule_where("reshape", lambda op: is_video(op.operands[0]) and op.result.type.shape == op.operands[0].type.shape[1:])
def unbatched(lo: Lowerer, op: Op) -> None:
    """Hold a video without its batch of one as before."""
    lo.tensors[op.result] = flat(lo, op.operands[0])


@rule_where("cast", lambda op: op.result.type.dtype == "uint8")
def frames_as_bytes(lo: Lowerer, op: Op) -> None:
    """Emit whole numbers up to 255 as bytes. ttnn reshapes no bytes, so that is done on bfloat16, which is exact
    here."""
    x = lo.to_layout(lo.to_dtype(lo.held(op.operands[0]), "bfloat16"), ROW_MAJOR)
    shape = frames_shape(op.result.type.local_shape)
    lo.tensors[op.result] = lo.to_dtype(lo.emit("reshape", [x], shape, shape=list(shape)), "uint8")


@rule_where("concat", lambda op: op.result.type.dtype == "uint8")
def strips_of_frames(lo: Lowerer, op: Op) -> None:
    parts = [lo.held(v) for v in op.operands]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    lo.tensors[op.result] = lo.emit("concat", parts, shape, dim=0)
