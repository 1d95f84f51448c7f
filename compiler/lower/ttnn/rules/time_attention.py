"""Attention of a video's pixels over time, each over its own past."""

from dataclasses import dataclass

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Form, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import TRANSPOSED
from mochi_aot.compiler.lower.ttnn.rules.attention import chunks
from mochi_aot.compiler.lower.ttnn.rules.frames import flat
from mochi_aot.compiler.lower.ttnn.rules.linear import joined_slices
from mochi_aot.compiler.lower.ttnn.rules.shape import sliced

TIME_LAST, TIME_SECOND = [0, 2, 3, 4, 1, 5], [0, 4, 1, 2, 3, 5]  # of [1, T, H, W, heads, D], and back
# Of the pixels that attend at once. Their queries, keys and values are three times as much, and as much again when
# they are apart, and normed.
ATTENDED_BYTES = 128 << 20


@dataclass(frozen=True)
class Chain:
    """What follows a product of queries, keys and values: the norm of each, if it has one, the attention, the op that
    merges heads, and all ops up to that."""

    norms: list[Op | None]
    attention: Op
    last: Op
    ops: list[Op]


def time_attention(lo: Lowerer, op: Op) -> bool:
    """Emit a product of queries, keys and values of a video's pixels, and their attention over time.

    Return False where that is not what follows the product. Chips hold a video as [1, T, H * W, C], and attention wants
    time beside channels. Some pixels are turned, attend and are turned back before the next ones, so that nothing but
    the video itself is there as a whole.
    """
    chain = _chain(lo, op)
    if chain is None:
        return False
    x = flat(lo, op.operands[0])
    _, frames, pixels, channels = x.shape
    tiles = -(-frames // TILE_SIZE)
    most = max(1, ATTENDED_BYTES // (tiles * TILE_SIZE * channels * 2) // TILE_SIZE) * TILE_SIZE
    made = []
    for start in range(0, pixels, most):
        some = sliced(lo, x, 2, start, min(start + most, pixels))
        made.append(_attended(lo, op, some, chain))
    joined = made[0] if len(made) == 1 else lo.emit("concat", made, x.shape, dim=2)
    lo.tensors[chain.last.result] = joined.held_as(Form.FLAT)
    lo.absorbed.update(chain.ops)
    return True


def _attended(lo: Lowerer, op: Op, x: Tensor, chain: Chain) -> Tensor:
    """Return what pixels [1, T, n, C] become, of the same shape."""
    _, frames, pixels, channels = x.shape
    *_, heads, _, width = chain.attention.result.type.local_shape
    turned = lo.emit("permute", [x], (1, pixels, frames, channels), dims=[0, 2, 1, 3])
    turned = lo.emit("reshape", [turned], (pixels, frames, channels), shape=[pixels, frames, channels])
    weight = lo.weight(op.operands[1], TRANSPOSED, dtype="bfloat16", shape=(channels, 3 * channels))
    shape = (pixels, frames, 3 * channels)
    joined = lo.emit("experimental.minimal_matmul", [turned, weight], shape, kw=[], compute=lo.fidelity)
    parts = lo.emit_many(
        "transformer.split_query_key_value_and_split_heads",
        [joined],
        [((pixels, heads, frames, width), joined.dtype, joined.layout)] * 3,
        num_heads=heads,
        transpose_key=False,
    )
    q, k, v = (
        part if norm is None else lo.emit("rms_norm", [part], part.shape, epsilon=norm.attrs["eps"], compute="hifi4")
        for part, norm in zip(parts, chain.norms, strict=True)
    )
    made = lo.emit(
        "transformer.scaled_dot_product_attention",
        [q, k, v],
        q.shape,
        is_causal=True,
        scale=chain.attention.attrs["scale"],
        program_config=chunks(frames, frames),
        compute=lo.fidelity,
    )
    merged = lo.emit("transformer.concatenate_heads", [made], (pixels, frames, channels))
    merged = lo.emit("reshape", [merged], (1, pixels, frames, channels), shape=[1, pixels, frames, channels])
    return lo.emit("permute", [merged], x.shape, dims=[0, 2, 1, 3])


def _chain(lo: Lowerer, op: Op) -> Chain | None:
    """Return what follows a product if it is attention over time."""
    parts = [_part(lo, piece) for piece in joined_slices(lo, op.result)]
    whole = [part for part in parts if part is not None]
    if len(whole) != 3 or len({attention for _, _, attention in whole}) != 1:
        return None
    attention = whole[0][2]
    back = lo.only_user(attention.result)
    last = lo.only_user(back.result) if back is not None else None
    if back is None or last is None or back.attrs.get("dims") != TIME_SECOND or last.opcode != "reshape":
        return None
    if [ops[-1].result for ops, _, _ in whole] != attention.operands:
        return None
    between = [one for ops, _, _ in whole for one in ops]
    return Chain([norm for _, norm, _ in whole], attention, last, [*between, attention, back, last])


def _part(lo: Lowerer, piece: Op) -> tuple[list[Op], Op | None, Op] | None:
    """Return the ops from a slice of a product to the attention over time that takes it, the norm among them, and the
    attention; None if something else takes it."""
    split = lo.only_user(piece.result)
    turn = lo.only_user(split.result) if split is not None and split.opcode == "reshape" else None
    if split is None or turn is None or turn.attrs.get("dims") != TIME_LAST:
        return None
    ops, norm, user = [piece, split, turn], None, lo.only_user(turn.result)
    if user is not None and user.opcode == "rms_norm" and len(user.operands) == 1:
        norm, user = user, lo.only_user(user.result)
        ops.append(norm)
    if user is None or user.opcode != "attention" or not user.attrs["causal"]:
        return None
    return ops, norm, user
