"""One handler for each of the reference's composite ops, which stay whole."""

import torch

from mochi_aot.compiler.ir.program import Value
from mochi_aot.compiler.trace.graph import Graph, Handler, arguments, handles

COMPOSITE: dict[str, Handler] = {}


@handles(COMPOSITE, "mochi.annotate.default")
def _annotate(graph: Graph, node: torch.fx.Node) -> Value:
    x, name = arguments(node, "x", "name")
    return graph.emit("annotate", [graph.value(x)], name=str(name))


@handles(COMPOSITE, "mochi.rms_norm.default")
def _rms_norm(graph: Graph, node: torch.fx.Node) -> Value:
    x, scale, eps = arguments(node, "x", "scale", "eps")
    return graph.emit("rms_norm", [graph.value(a) for a in (x, scale) if a is not None], eps=float(eps))


@handles(COMPOSITE, "mochi.rope.default")
def _rope(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("rope", [graph.value(a) for a in arguments(node, "x", "cos", "sin")])


@handles(COMPOSITE, "mochi.joint_attention.default")
def _joint_attention(graph: Graph, node: torch.fx.Node) -> list[Value]:
    *tensors, scale = arguments(node, "q", "k", "v", "q_text", "k_text", "v_text", "mask", "scale")
    return graph.emit_many("joint_attention", [graph.value(t) for t in tensors], scale=float(scale))


@handles(COMPOSITE, "mochi.causal_conv3d.default")
def _causal_conv3d(graph: Graph, node: torch.fx.Node) -> Value:
    *tensors, stride = arguments(node, "x", "weight", "bias", "stride")
    operands = [graph.value(t) for t in tensors if t is not None]
    time, height, width = operands[1].type.shape[2:]
    h, w = (height - 1) // 2, (width - 1) // 2
    return graph.emit("causal_conv3d", operands, stride=[int(s) for s in stride], padding=[time - 1, h, h, w, w])


@handles(COMPOSITE, "mochi.group_norm.default")
def _group_norm(graph: Graph, node: torch.fx.Node) -> Value:
    *tensors, groups, eps = arguments(node, "x", "weight", "bias", "groups", "eps")
    return graph.emit("group_norm", [graph.value(t) for t in tensors], groups=int(groups), eps=float(eps))


@handles(COMPOSITE, "mochi.count_nonfinite.default")
def _count_nonfinite(graph: Graph, node: torch.fx.Node) -> Value:
    return graph.emit("count_nonfinite", [graph.operand(node)], valid=[])
