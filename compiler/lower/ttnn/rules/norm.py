"""Norms and reductions over the last dimension."""

from typing import Any

from mochi_aot.compiler.ir.ops import integer, ints
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Form, Lowerer, Tensor
from mochi_aot.compiler.lower.ttnn.prepare import ROW
from mochi_aot.compiler.lower.ttnn.rules.table import rule


@rule("rms_norm")
def rms_norm(lo: Lowerer, op: Op) -> None:
    """Put a scale that is a parameter into the norm; another is a product, joined with the sum that follows a gate."""
    value, *scale = op.operands
    x = lo.held(value) if lo.held(value).form is Form.HEADS_FIRST else lo.get(value)
    attrs: dict[str, Any] = {"epsilon": op.attrs["eps"], "compute": "hifi4"}
    if scale and scale[0] in lo.params:
        weight = lo.weight(scale[0], ROW, shape=(1, scale[0].type.local_shape[0]))
        normed = lo.emit("rms_norm", [x, weight], x.shape, kw=["weight"], **attrs)  # type: ignore[arg-type]
        lo.tensors[op.result] = normed.like(x)
        return
    if scale and _gated_total(lo, op) is None and _scales_one_row(lo, op, x):
        lo.tensors[op.result] = lo.emit("rms_norm", [x, lo.get(scale[0])], x.shape, kw=["weight"], **attrs)  # type: ignore[arg-type]
        return
    normed = lo.emit("rms_norm", [x], x.shape, **attrs).like(x)
    if not scale:
        lo.tensors[op.result] = normed
    elif not _gated_sum(lo, op, normed):
        factor = lo.get(scale[0])
        lo.tensors[op.result] = lo.emit("multiply", [normed, factor], op.result.type.local_shape, dtype=normed.dtype)


def _gated_sum(lo: Lowerer, op: Op, normed: Tensor) -> bool:
    """Emit residual + normed * gate in one call."""
    total = _gated_total(lo, op)
    if total is None:
        return False
    residual = total.operands[0]
    gate = lo.to_dtype(lo.get(op.operands[1]), normed.dtype)
    operands = [lo.get(residual), normed, gate]
    if operands[0].shape != normed.shape:
        return False
    lo.tensors[total.result] = lo.emit("addcmul", operands, normed.shape, value=1.0)
    lo.absorbed.add(total)
    return True


def _gated_total(lo: Lowerer, op: Op) -> Op | None:
    """Return the sum with a residual that follows the norm, if nothing else reads it."""
    total = lo.only_user(op.result)
    if total is None or total.opcode != "add" or total.operands[1] is not op.result:
        return None
    residual = total.operands[0]
    fits = residual in lo.tensors and residual.type.local_shape == op.result.type.local_shape
    return total if fits else None


def _scales_one_row(lo: Lowerer, op: Op, x: Tensor) -> bool:
    """Return whether the scale is one vector for all of `x`, and of its dtype, as ttnn wants a norm's weight to be."""
    scale = lo.get(op.operands[1])
    return scale.shape == (*[1] * (len(scale.shape) - 1), x.shape[-1]) and scale.dtype == x.dtype == "bfloat16"


@rule("sum", "mean")
def reduce(lo: Lowerer, op: Op) -> None:
    x = lo.get(op.operands[0])
    shape = op.result.type.local_shape
    dims = ints(op.attrs["dims"])
    lo.tensors[op.result] = lo.emit(op.opcode, [x], shape, dim=dims, keepdim=op.attrs["keepdim"], compute="hifi4")


@rule("softmax")
def softmax(lo: Lowerer, op: Op) -> None:
    x = lo.get(op.operands[0])
    lo.tensors[op.result] = lo.emit("softmax", [x], x.shape, dim=integer(op.attrs["dim"]), compute="hifi4")
