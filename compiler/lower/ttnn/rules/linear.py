"""Linear layers and what follows them so often that ttnn fuses it: SwiGLU, and the split into heads."""

import math

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.ops import integer
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, Form, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import PLAIN, ROW, SWIGLU, TRANSPOSED, Preparation, share_for
from mochi_aot.compiler.lower.ttnn.rules.mesh import summed
from mochi_aot.compiler.lower.ttnn.rules.shape import reshaped
from mochi_aot.compiler.lower.ttnn.rules.table import rule


@rule("linear")
def linear(lo: Lowerer, op: Op) -> None:
    slices = joined_slices(lo, op.result)
    if _swiglu(lo, op, slices) or _heads(lo, op, slices) or _bias_before_sum(lo, op):
        return
    lo.tensors[op.result] = _product(lo, op)


def _bias_before_sum(lo: Lowerer, op: Op) -> bool:
    """Lower a bias that is added to a sum over chips: each chip's product adds its share of it, which costs nothing.

    Shares of a power of two of chips are exact, and their sum is the bias.
    """
    total = lo.only_user(op.result)
    biased = lo.only_user(total.result) if total is not None and total.opcode == "all_reduce" else None
    if total is None or biased is None or biased.opcode != "add" or biased.operands[1] not in lo.params:
        return False
    bias, chips = biased.operands[1], lo.mesh[integer(total.attrs["axis"])]
    outputs = op.operands[1].type.local_shape[0]
    if bias.type.local_shape != (outputs,) or len(op.operands) > 2 or chips & (chips - 1):
        return False
    share = lo.weight(bias, share_for(chips), shape=(1, outputs))
    partial = _product(lo, op, share)
    lo.tensors[biased.result] = summed(lo, partial, integer(total.attrs["axis"]))
    lo.absorbed.update((total, biased))
    return True


def _product(lo: Lowerer, op: Op, share: Tensor | None = None) -> Tensor:
    """`share` stands in for a bias."""
    value, weight, *bias = op.operands
    x = _rows(lo, value)
    outputs, _ = weight.type.local_shape
    operands = [x, _matrix(lo, weight, TRANSPOSED)]
    operands += [lo.weight(b, ROW, shape=(1, outputs)) for b in bias] if share is None else [share]
    kw: list[str] = ["bias_tensor"] * (len(operands) - 2)
    shape = (*x.shape[:-1], outputs)
    product = lo.emit("experimental.minimal_matmul", operands, shape, kw=kw, compute=lo.fidelity)  # type: ignore[arg-type]
    return product.like(x)


def _matrix(lo: Lowerer, weight: Value, preparation: Preparation) -> Tensor:
    """Return a weight [outputs, inputs] as [inputs, outputs]; gather one of which each chip has some inputs."""
    outputs, inputs = weight.type.local_shape
    dtype = "float32" if weight.type.dtype == "float32" else lo.weights_dtype
    if weight in lo.params:
        return lo.weight(weight, preparation, dtype=dtype, shape=(inputs, outputs))
    gather = lo.producers[weight]
    (piece,) = gather.operands
    kept = lo.weight(piece, preparation, dtype=dtype, shape=(piece.type.local_shape[1], outputs))
    return lo.emit("all_gather", [kept], (inputs, outputs), dim=0, axis=integer(gather.attrs["axis"]))


def _rows(lo: Lowerer, value: Value) -> Tensor:
    """Return a product's operand, packed where it has less than a tile of rows in its last dimension but one."""
    x = lo.held(value)
    if (
        x.form in (Form.PACKED, Form.HEADS_FIRST)
        or len(x.shape) < 3
        or x.shape[-2] >= TILE_SIZE
        or math.prod(x.shape[:-2]) == 1
    ):
        return x if x.form is Form.PACKED else lo.get(value)
    shape = (math.prod(x.shape[:-1]), x.shape[-1])
    return reshaped(lo, x, shape).held_as(Form.PACKED)


def joined_slices(lo: Lowerer, value: Value) -> list[Op]:
    """Return the slices along the last dimension that cut a joined product, in order; none if it has other uses."""
    users = lo.users[value]
    last = len(value.type.shape) - 1
    if not users or any(user.opcode != "slice" or user.attrs["dim"] != last for user in users):
        return []
    return sorted(users, key=lambda user: integer(user.attrs["start"]))


def _swiglu(lo: Lowerer, op: Op, slices: list[Op]) -> bool:
    """silu(first half) * second half, done inside the product; the weight's column tiles alternate gate and up."""
    if len(slices) != 2 or len(op.operands) != 2:
        return False
    silu = lo.only_user(slices[0].result)
    product = lo.only_user(silu.result) if silu is not None and silu.opcode == "silu" else None
    if silu is None or product is None or product.opcode != "mul":
        return False
    if product.operands != [silu.result, slices[1].result] or lo.only_user(slices[1].result) is not product:
        return False
    value, weight = op.operands
    x = lo.get(value)
    outputs, _ = weight.type.local_shape
    if outputs % 64:
        return False
    prepared = _matrix(lo, weight, SWIGLU)
    shape = (*x.shape[:-1], outputs // 2)
    attrs = {"compute": lo.fidelity, "fuse_swiglu": True}
    lo.tensors[product.result] = lo.emit("experimental.minimal_matmul", [x, prepared], shape, **attrs)  # type: ignore[arg-type]
    lo.absorbed.update((*slices, silu, product))
    return True


def _heads(lo: Lowerer, op: Op, slices: list[Op]) -> bool:
    """Lower queries, keys and values in one product, each [B, N, H * D] seen as [B, N, H, D], heads in whole tiles."""
    reshapes = [lo.only_user(piece.result) for piece in slices]
    if len(reshapes) != 3 or any(r is None or r.opcode != "reshape" for r in reshapes):
        return False
    results = [r.result for r in reshapes if r is not None]
    shapes = {result.type.local_shape for result in results}
    if len(shapes) != 1 or len(results[0].type.local_shape) != 4:
        return False
    ((b, n, heads, width),) = shapes
    if width % TILE_SIZE:
        return False
    joined = _product(lo, op)
    made = lo.emit_many(
        "transformer.split_query_key_value_and_split_heads",
        [joined],
        [((b, heads, n, width), joined.dtype, joined.layout)] * 3,
        num_heads=heads,
        transpose_key=False,
    )
    for result, tensor in zip(results, made, strict=True):
        lo.tensors[result] = tensor.held_as(Form.HEADS_FIRST)
    lo.absorbed.update((*slices, *(r for r in reshapes if r is not None)))
    return True


@rule("matmul")
def matmul(lo: Lowerer, op: Op) -> None:
    a, b = (lo.get(v) for v in op.operands)
    lo.tensors[op.result] = lo.emit("matmul", [a, b], op.result.type.local_shape, compute=lo.fidelity)


@rule("embedding")
def embedding(lo: Lowerer, op: Op) -> None:
    table, ids = op.operands
    weight = lo.weight(table, PLAIN, ROW_MAJOR, "bfloat16")
    index = lo.get(ids, ROW_MAJOR)
    shape = op.result.type.local_shape
    lo.tensors[op.result] = lo.emit(
        "embedding", [index, weight], shape, out_dtype="bfloat16", out_layout="tile", layout="tile"
    )
