"""Elementwise ops."""

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import TILE, Lowerer
from mochi_aot.compiler.lower.ttnn.rules.table import rule

BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide"}
SCALAR = {"add_scalar": "add", "mul_scalar": "multiply"}
HUGE = 1e30  # as good as infinity to a softmax, and finite in bfloat16
UNARY = ("silu", "tanh", "sin", "cos", "round")


@rule(*BINARY)
def binary(lo: Lowerer, op: Op) -> None:
    a, b = (lo.get(v) for v in op.operands)
    # A table's row is bfloat16 where the IR says float32: the result is as precise as the better operand.
    dtype = "float32" if "float32" in (a.dtype, b.dtype) else a.dtype
    lo.tensors[op.result] = lo.emit(BINARY[op.opcode], [a, b], op.result.type.local_shape, out_dtype=dtype, dtype=dtype)


@rule(*SCALAR)
def scalar(lo: Lowerer, op: Op) -> None:
    x = lo.to_layout(lo.held(op.operands[0]), TILE)
    lo.tensors[op.result] = lo.emit(SCALAR[op.opcode], [x], x.shape, value=op.attrs["value"]).like(x)


@rule(*UNARY)
def unary(lo: Lowerer, op: Op) -> None:
    x = lo.to_layout(lo.held(op.operands[0]), TILE)
    lo.tensors[op.result] = lo.emit(op.opcode, [x], x.shape).like(x)


@rule("gelu_tanh")
def gelu_tanh(lo: Lowerer, op: Op) -> None:
    """Emit the tanh form, with which T5 was trained: ttnn's own gelu is exact or a table, and differs by up to 5e-4."""
    x = lo.get(op.operands[0])
    cubic = lo.emit("multiply", [lo.emit("multiply", [x, x], x.shape), x], x.shape)
    inner = lo.emit("add", [x, lo.emit("multiply", [cubic], x.shape, value=0.044715)], x.shape)
    wave = lo.emit("tanh", [lo.emit("multiply", [inner], x.shape, value=0.7978845608028654)], x.shape)
    half = lo.emit("multiply", [x], x.shape, value=0.5)
    lo.tensors[op.result] = lo.emit("multiply", [half, lo.emit("add", [wave], x.shape, value=1.0)], x.shape)


@rule("clamp")
def clamp(lo: Lowerer, op: Op) -> None:
    x = lo.to_layout(lo.held(op.operands[0]), TILE)
    made = lo.emit("clamp", [x], x.shape, min=op.attrs["min"], max=op.attrs["max"])
    lo.tensors[op.result] = made.like(x)


@rule("cast")
def cast(lo: Lowerer, op: Op) -> None:
    x = lo.to_layout(lo.held(op.operands[0]), TILE)
    lo.tensors[op.result] = lo.to_dtype(x, {"bool": "bfloat16"}.get(op.result.type.dtype, op.result.type.dtype))


@rule("where_scalar")
def where_scalar(lo: Lowerer, op: Op) -> None:
    """Mask attention: add nothing where the condition is one and a huge negative number where it is zero."""
    value = op.attrs["value"]
    if not isinstance(value, float) or value > -HUGE:
        raise lo.fail(f"where has a lowering for masks alone, and {value} masks nothing")
    condition, x = (lo.get(v) for v in op.operands)
    missing = lo.emit("add", [condition], condition.shape, value=-1.0)
    excess = lo.emit("multiply", [missing], condition.shape, value=HUGE)
    lo.tensors[op.result] = lo.emit("add", [x, excess], op.result.type.local_shape, dtype=x.dtype)
