"""One handler an ATen op. A handler refuses, with an IRError, arguments that the op it emits cannot express."""

import math

import torch

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import Value
from mochi_aot.compiler.trace.graph import Graph, Handler, arguments, dtype_of, handles, shape_of

ATEN: dict[str, Handler] = {}


def _number(value: object, dtype: str) -> int | float:
    """Return a Python scalar of the kind that a dtype holds."""
    assert isinstance(value, int | float)
    return int(value) if dtype in ("int32", "uint8") else float(value)


def _register_unary(target: str, opcode: str) -> None:
    @handles(ATEN, target)
    def handler(graph: Graph, node: torch.fx.Node) -> Value:
        return graph.emit(opcode, [graph.operand(node)])


for _name in ("silu", "tanh", "sin", "cos", "exp", "round"):
    _register_unary(f"aten.{_name}.default", _name)


@handles(ATEN, "aten.gelu.default")
def _gelu(graph: Graph, node: torch.fx.Node) -> Value:
    x, approximate = arguments(node, "self", "approximate")
    if approximate != "tanh":
        raise IRError(f"approximate={approximate!r}; only 'tanh' has an op")
    return graph.emit("gelu_tanh", [graph.value(x)])


@handles(ATEN, "aten.neg.default")
def _neg(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("mul_scalar", [graph.operand(node)], value=_number(-1, dtype_of(node)))


@handles(ATEN, "aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.div.Tensor")
def _binary(graph: Graph, node: torch.fx.Node) -> Value:
    """Cast operands to the result's dtype first; a scalar becomes an attribute."""
    if node.kwargs.get("alpha", 1) != 1:
        raise IRError(f"alpha={node.kwargs['alpha']}; multiply the operand instead")
    opcode, dtype = str(node.target).split(".")[1], dtype_of(node)
    x, other = graph.cast(graph.operand(node), dtype), node.args[1]
    if isinstance(other, torch.fx.Node):
        return graph.emit(opcode, [x, graph.cast(graph.value(other), dtype)])
    number = _number(other, dtype)
    if opcode in ("add", "sub"):
        return graph.emit("add_scalar", [x], value=number if opcode == "add" else -number)
    return graph.emit("mul_scalar", [x], value=number if opcode == "mul" else 1.0 / number)


@handles(ATEN, "aten.rsub.Scalar")
def _rsub(graph: Graph, node: torch.fx.Node) -> Value:
    x, number, alpha = arguments(node, "self", "other", "alpha")
    dtype = dtype_of(node)
    negated = graph.emit("mul_scalar", [graph.cast(graph.value(x), dtype)], value=-_number(alpha, dtype))
    return graph.emit("add_scalar", [negated], value=_number(number, dtype))


@handles(ATEN, "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default")
def _to(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.cast(graph.operand(node), dtype_of(node))


@handles(
    ATEN,
    "aten.contiguous.default",
    "aten.clone.default",
    "aten.alias.default",
    "aten.detach.default",
    "aten.detach_.default",
    "aten.lift_fresh_copy.default",
)
def _same(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.operand(node)


@handles(ATEN, "aten.dropout.default")
def _dropout(graph: Graph, node: torch.fx.Node) -> Value:
    x, p, train = arguments(node, "input", "p", "train")
    if train and p:
        raise IRError(f"drops {p} of its input; trace modules in evaluation mode")
    return graph.value(x)


@handles(ATEN, "aten.clamp.default")
def _clamp(graph: Graph, node: torch.fx.Node) -> Value:
    x, low, high = arguments(node, "self", "min", "max")
    dtype = dtype_of(node)
    low, high = (None if bound is None else _number(bound, dtype) for bound in (low, high))
    return graph.emit("clamp", [graph.cast(graph.value(x), dtype)], min=low, max=high)


@handles(ATEN, "aten.where.ScalarOther")
def _where_scalar(graph: Graph, node: torch.fx.Node) -> Value:
    condition, x, other = arguments(node, "condition", "self", "other")
    dtype = dtype_of(node)
    operands = [graph.value(condition), graph.cast(graph.value(x), dtype)]
    return graph.emit("where_scalar", operands, value=_number(other, dtype))


@handles(
    ATEN,
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.unsqueeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.default",
    "aten.squeeze.dims",
)
def _reshape(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("reshape", [graph.operand(node)], shape=shape_of(node))


@handles(ATEN, "aten.expand.default")
def _expand(graph: Graph, node: torch.fx.Node) -> Value:
    value, shape = graph.operand(node), shape_of(node)
    missing = len(shape) - len(value.type.shape)
    if missing:
        value = graph.emit("reshape", [value], shape=[1] * missing + list(value.type.shape))
    return graph.emit("expand", [value], shape=shape)


@handles(ATEN, "aten.permute.default")
def _permute(graph: Graph, node: torch.fx.Node) -> Value:
    x, dims = arguments(node, "self", "dims")
    return graph.emit("permute", [graph.value(x)], dims=[d % len(dims) for d in dims])


@handles(ATEN, "aten.transpose.int")
def _transpose(graph: Graph, node: torch.fx.Node) -> Value:
    x, a, b = arguments(node, "self", "dim0", "dim1")
    dims = list(range(len(shape_of(node))))
    dims[a], dims[b] = dims[b], dims[a]
    return graph.emit("permute", [graph.value(x)], dims=dims)


def _along(graph: Graph, node: torch.fx.Node) -> tuple[Value, int]:
    """Return the operand of an op, and which of its dimensions the op works along."""
    x, dim = arguments(node, "self", "dim")
    value = graph.value(x)
    return value, dim % len(value.type.shape)


def _piece(graph: Graph, value: Value, dim: int, start: int, stop: int) -> Value:
    return graph.emit("slice", [value], dim=dim, start=start, stop=stop)


@handles(ATEN, "aten.slice.Tensor")
def _slice(graph: Graph, node: torch.fx.Node) -> Value:
    value, dim = _along(graph, node)
    start, end, step = arguments(node, "start", "end", "step")
    if step != 1:
        raise IRError(f"step {step}; only 1 has an op")
    first, last, _ = slice(start, end).indices(value.type.shape[dim])
    return _piece(graph, value, dim, first, last)


@handles(ATEN, "aten.select.int")
def _select(graph: Graph, node: torch.fx.Node) -> Value:
    value, dim = _along(graph, node)
    (index,) = arguments(node, "index")
    index %= value.type.shape[dim]
    return graph.emit("reshape", [_piece(graph, value, dim, index, index + 1)], shape=shape_of(node))


@handles(ATEN, "aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default")
def _split(graph: Graph, node: torch.fx.Node) -> list[Value]:
    value, dim = _along(graph, node)
    pieces, start = [], 0
    for piece in node.meta["val"]:
        stop = start + int(piece.shape[dim])
        pieces.append(_piece(graph, value, dim, start, stop))
        start = stop
    return pieces


@handles(ATEN, "aten.unbind.int")
def _unbind(graph: Graph, node: torch.fx.Node) -> list[Value]:
    value, dim = _along(graph, node)
    shape = [n for d, n in enumerate(value.type.shape) if d != dim]
    rows = [_piece(graph, value, dim, i, i + 1) for i in range(value.type.shape[dim])]
    return [graph.emit("reshape", [row], shape=list(shape)) for row in rows]


@handles(ATEN, "aten.cat.default")
def _cat(graph: Graph, node: torch.fx.Node) -> Value:
    tensors, dim = arguments(node, "tensors", "dim")
    return graph.emit("concat", [graph.value(t) for t in tensors], dim=dim % len(shape_of(node)))


@handles(ATEN, "aten.stack.default")
def _stack(graph: Graph, node: torch.fx.Node) -> Value:
    tensors, dim = arguments(node, "tensors", "dim")
    shape = shape_of(node)
    dim %= len(shape)
    shape[dim] = 1
    rows = [graph.emit("reshape", [graph.value(t)], shape=list(shape)) for t in tensors]
    return graph.emit("concat", rows, dim=dim)


@handles(ATEN, "aten.mean.dim", "aten.sum.dim_IntList")
def _reduce(graph: Graph, node: torch.fx.Node) -> Value:
    x, dims, keepdim = arguments(node, "self", "dim", "keepdim")
    value = graph.cast(graph.value(x), dtype_of(node))
    opcode, rank = str(node.target).split(".")[1], len(value.type.shape)
    dims = sorted(d % rank for d in dims) if dims else list(range(rank))  # torch: no dims means all
    return graph.emit(opcode, [value], dims=dims, keepdim=bool(keepdim))


@handles(ATEN, "aten.softmax.int")
def _softmax(graph: Graph, node: torch.fx.Node) -> Value:
    value, dim = _along(graph, node)
    return graph.emit("softmax", [graph.cast(value, dtype_of(node))], dim=dim)


@handles(ATEN, "aten.linear.default")
def _linear(graph: Graph, node: torch.fx.Node) -> Value:
    operands = arguments(node, "input", "weight", "bias")
    return graph.emit("linear", [graph.value(a) for a in operands if a is not None])


@handles(ATEN, "aten.matmul.default")
def _matmul(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("matmul", [graph.operand(node, 0), graph.operand(node, 1)])


@handles(ATEN, "aten.embedding.default")
def _embedding(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("embedding", [graph.value(a) for a in arguments(node, "weight", "indices")])


@handles(ATEN, "aten.scaled_dot_product_attention.default")
def _attention(graph: Graph, node: torch.fx.Node) -> Value:
    *tensors, causal, scale = arguments(node, "query", "key", "value", "attn_mask", "is_causal", "scale")
    dropout, grouped = arguments(node, "dropout_p", "enable_gqa")
    if dropout or grouped:
        raise IRError(f"dropout_p={dropout}, enable_gqa={grouped}; neither has an op")
    operands = [graph.value(a) for a in tensors if a is not None]
    if operands[-1].type.dtype == "bool":
        raise IRError("the mask is bool; add a bias to the scores instead")
    width = operands[0].type.shape[-1]
    scale = 1.0 / math.sqrt(width) if scale is None else float(scale)
    return graph.emit("attention", operands, scale=scale, causal=bool(causal))
