"""RoPE and attention. Queries, keys and values are held heads first, [B, H, N, D]."""

import numpy as np

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.lower.ttnn.chip_constants import machine_of
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import ROPE
from mochi_aot.compiler.lower.ttnn.ring_chunks import ring_chunks
from mochi_aot.compiler.lower.ttnn.rules.elementwise import HUGE
from mochi_aot.compiler.lower.ttnn.rules.shape import reshaped, sliced
from mochi_aot.compiler.lower.ttnn.rules.table import rule

CHUNK = 256  # tokens of queries, and of keys, that a core works on at a time, outside of rings


def heads_first(lo: Lowerer, value: Value) -> Tensor:
    """Return the tensor of an IR value [B, N, H, D] as [B, H, N, D]."""
    held = lo.tensors[value]
    if held.form is Form.HEADS_FIRST:
        return held
    b, n, h, d = held.shape
    return lo.emit("permute", [lo.get(value)], (b, h, n, d), dims=[0, 2, 1, 3]).held_as(Form.HEADS_FIRST)


@rule("rope")
def rope(lo: Lowerer, op: Op) -> None:
    x = heads_first(lo, op.operands[0])
    _, heads, tokens, width = x.shape
    if width % TILE_SIZE:
        raise lo.fail(f"heads of {width} numbers; the ttnn target wants a multiple of {TILE_SIZE}, as 64 or 128")
    tables = [lo.weight(table, ROPE, dtype="bfloat16", shape=(1, heads, tokens, width)) for table in op.operands[1:]]
    operands = [x, *tables, lo.constant("rotation", rotation_matrix(), "bfloat16")]
    turned = lo.emit("experimental.rotary_embedding_llama", operands, x.shape, is_decode_mode=False, compute="hifi4")
    lo.tensors[op.result] = turned.held_as(Form.HEADS_FIRST)


def rotation_matrix() -> np.ndarray:
    """Return float32 [1, 1, 32, 32]: x @ it swaps each pair (a, b) to (-b, a), as rotary_embedding_llama wants it."""
    matrix = np.zeros((1, 1, TILE_SIZE, TILE_SIZE), np.float32)
    even = np.arange(0, TILE_SIZE, 2)
    matrix[0, 0, even, even + 1] = 1.0
    matrix[0, 0, even + 1, even] = -1.0
    return matrix


@rule("attention")
def attention(lo: Lowerer, op: Op) -> None:
    q, k, v, *bias = (lo.get(value) for value in op.operands)
    if len(q.shape) != 4 or op.attrs["causal"]:
        raise lo.fail("only plain attention over [B, H, L, D] has a ttnn lowering")
    if q.shape[2] < TILE_SIZE:
        lo.tensors[op.result] = _small_attention(lo, op, q, k, v, bias)
        return
    attrs = {"is_causal": False, "scale": op.attrs["scale"], "program_config": chunks(q.shape[2], k.shape[2])}
    kw: list[str] = ["attn_mask"] * len(bias)
    width = q.shape[3]
    q, k, v = (_in_whole_tiles(lo, x) for x in (q, k, v))
    made = lo.emit(
        "transformer.scaled_dot_product_attention",
        [q, k, v, *bias],
        q.shape,
        kw=kw,  # type: ignore[arg-type]
        compute=lo.fidelity,
        **attrs,  # type: ignore[arg-type]
    )
    lo.tensors[op.result] = sliced(lo, made, 3, 0, width)


def _in_whole_tiles(lo: Lowerer, x: Tensor) -> Tensor:
    """`x` [B, H, N, D] with columns of zeros up to a multiple of 32, which change no product of rows."""
    missing = -x.shape[3] % TILE_SIZE
    return _widened(lo, x, 0.0, missing) if missing else x


def _small_attention(lo: Lowerer, op: Op, q: Tensor, k: Tensor, v: Tensor, bias: list[Tensor]) -> Tensor:
    """Attend from a few queries, which are not worth a fused kernel, whose blocks are tiles of queries."""
    b, h, lk, d = k.shape
    turned = lo.emit("permute", [k], (b, h, d, lk), dims=[0, 1, 3, 2])
    scores = lo.emit("matmul", [q, turned], (*q.shape[:3], lk), compute="hifi4")
    scores = lo.emit("multiply", [scores], scores.shape, value=op.attrs["scale"])
    if bias:
        scores = lo.emit("add", [scores, *bias], scores.shape)
    weights = lo.emit("softmax", [scores], scores.shape, dim=3, compute="hifi4")
    return lo.emit("matmul", [weights, v], (*q.shape[:3], v.shape[3]), compute="hifi4")


def chunks(queries: int, keys: int) -> list[int]:
    """Block sizes: whole tiles, no longer than what there is."""

    def chunk(length: int) -> int:
        return min(CHUNK, -(-length // TILE_SIZE) * TILE_SIZE)

    return [chunk(queries), chunk(keys)]


@rule("joint_attention")
def joint_attention(lo: Lowerer, op: Op) -> None:
    """Lower attention where a chip has the whole sequence.

    ttnn takes a text's length in the ring's op alone, and a mask for every query and key would be too big, so the mask
    goes into the scores by a tile of more columns: of ones in the queries, and in the keys of zeros, or of huge
    negative numbers where the mask hides a token.

    The text comes first, since its tokens are whole tiles.
    """
    visual, text = ([heads_first(lo, value) for value in op.operands[i : i + 3]] for i in (0, 3))
    if text[0].shape[2] % TILE_SIZE:
        raise lo.fail(f"a text of {text[0].shape[2]} tokens, which is no multiple of {TILE_SIZE}")
    q, v = (_joined(lo, [_widened(lo, x, fill) for x in (text[i], visual[i])]) for i, fill in ((0, 1.0), (2, 0.0)))
    hidden = _hidden_columns(lo, op.operands[6], text[1].shape)
    k = _joined(lo, [_joined(lo, [text[1], hidden], dim=3), _widened(lo, visual[1], 0.0)])
    made = lo.emit(
        "transformer.scaled_dot_product_attention",
        [q, k, v],
        q.shape,
        is_causal=False,
        scale=op.attrs["scale"],
        program_config=chunks(q.shape[2], k.shape[2]),
        compute=lo.fidelity,
    )
    made = sliced(lo, made, 3, 0, text[0].shape[3])
    length = text[0].shape[2]
    for result, start, stop in zip(op.results, (length, 0), (q.shape[2], length), strict=True):
        lo.tensors[result] = sliced(lo, made, 2, start, stop).held_as(Form.HEADS_FIRST)


def _joined(lo: Lowerer, parts: list[Tensor], dim: int = 2) -> Tensor:
    """Tensors [B, H, N, D] as one, along the tokens unless `dim` says otherwise."""
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return lo.emit("concat", parts, tuple(shape), dim=dim)


def _widened(lo: Lowerer, x: Tensor, fill: float, columns: int = TILE_SIZE) -> Tensor:
    """`x` with so many more columns of `fill`."""
    padding = [[0, 0], [0, 0], [0, 0], [0, columns]]
    return lo.emit("pad", [x], (*x.shape[:3], x.shape[3] + columns), padding=padding, value=fill)


def _hidden_columns(lo: Lowerer, mask: Value, like: tuple[int, ...]) -> Tensor:
    """Return what keys of a text [B, H, L, D] have in the columns: together -HUGE where mask [B, L] is zero, else 0."""
    seen = lo.get(mask)
    missing = lo.emit("multiply", [lo.emit("add", [seen], seen.shape, value=-1.0)], seen.shape, value=HUGE / TILE_SIZE)
    batch, heads, length, _ = like
    column = lo.to_layout(reshaped(lo, missing, (batch, 1, length, 1)), TILE)
    return lo.emit("repeat", [column], (batch, heads, length, TILE_SIZE), repeat_dims=[1, heads, 1, TILE_SIZE])


@rule("ring_joint_attention")
def ring_joint_attention(lo: Lowerer, op: Op) -> None:
    """Emit one call per batch row: rows differ in how many text tokens they attend to, which a device tensor says.

    So a prompt's padding is masked exactly, and no prompt length needs a program of its own. It asks of the mask that
    the attended tokens come first.

    Every chip has the whole text, and hands it to ttnn as its own share of a text as many times as long. The length
    then always lies in the first chip's share, and ttnn skips the shares of the others: a length that reached into a
    later share would meet a defect of ttnn (see artifacts/ttnn_defects.py).
    """
    parts = [heads_first(lo, value) for value in op.operands[:6]]
    if parts[3].shape[2] % TILE_SIZE:
        raise lo.fail(f"a text of {parts[3].shape[2]} tokens, which is no multiple of {TILE_SIZE}")
    if lo.sends_rounded:  # keys and values; ttnn wants queries to be alike
        parts = [lo.to_dtype(part, "bfloat8_b") for part in parts]
    lengths = _attended(lo, op.operands[6])
    rows = [_ring(lo, op, parts, lengths[row], row) for row in range(parts[0].shape[0])]
    for result, like, made in zip(op.results, (parts[0], parts[3]), zip(*rows, strict=True), strict=True):
        joined = lo.emit("concat", list(made), like.shape, dim=0) if len(made) > 1 else made[0]
        lo.tensors[result] = joined.held_as(Form.HEADS_FIRST)


def _ring(lo: Lowerer, op: Op, parts: list[Tensor], length: Tensor, row: int) -> tuple[Tensor, Tensor]:
    q, k, v, q_text, k_text, v_text = (sliced(lo, part, 0, row, row + 1) for part in parts)
    axis = integer(op.attrs["axis"])
    made = lo.emit_many(
        "transformer.ring_joint_scaled_dot_product_attention",
        [q, k, v, q_text, k_text, v_text, length],
        [(q.shape, "bfloat16", q.layout), (q_text.shape, "bfloat16", q.layout)],
        kw=["logical_l"],  # type: ignore[arg-type]
        size=integer(op.attrs["size"]),
        text_size=q_text.shape[2],
        scale=op.attrs["scale"],
        axis=axis,
        buffer=_gathered(k, lo.mesh[axis]),
        text_buffer=_gathered(k_text, lo.mesh[axis]),
        dtype=q.dtype,
        program_config=list(ring_chunks(q.shape, q_text.shape, lo.mesh[axis], q.dtype, machine_of(lo.mesh, lo.arch))),
        compute="hifi2_bf16acc",  # with a length in a tensor, ttnn skips the text's padding on this path alone
    )
    return made[0], made[1]


def _gathered(x: Tensor, pieces: int) -> list[int]:
    """Return the shape of the tokens [1, H, N, D] of all chips."""
    return [*x.shape[:2], x.shape[2] * pieces, x.shape[3]]


def _attended(lo: Lowerer, mask: Value) -> list[Tensor]:
    """Return for each row of the mask how many tokens it attends to, uint32 [1]."""
    key = ("attended", mask)
    counted = lo.get(mask)
    rows = counted.shape[0]
    if (key, 0) not in lo.cache:
        wide = lo.to_dtype(counted, "float32")
        total = lo.emit("sum", [wide], (rows, 1), dim=[1], keepdim=True, compute="hifi4")
        whole = lo.to_layout(lo.to_dtype(total, "uint32"), ROW_MAJOR)
        for row in range(rows):
            one = sliced(lo, whole, 0, row, row + 1)
            lo.cache[key, row] = lo.emit("reshape", [one], (1,), shape=[1])
    return [lo.cache[key, row] for row in range(rows)]
