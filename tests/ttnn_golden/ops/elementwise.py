"""Elementwise ops, all of them ttnn's own definitions."""

from typing import Any

import ttnn
from torch import Tensor

from tests.ttnn_golden.local import golden_function, local, theirs
from tests.ttnn_golden.types import Attrs, Golden

UNARY = ("silu", "tanh", "sin", "cos", "exp", "rsqrt", "reciprocal", "square", "isfinite")
BINARY = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "eq",
)


def _binary(op: str) -> Golden:
    """With a tensor, or with the number `value`; then come `activations`."""
    function = golden_function(op)

    def call(attrs: Attrs, *operands: Tensor) -> Any:
        number = [attrs["value"]] if "value" in attrs else []
        activations = [getattr(ttnn.UnaryOpType, name.upper()) for name in attrs.get("activations", [])]
        return function(*operands, *number, activations=activations)

    return local(call, "value activations")


def _typecast(attrs: Attrs, x: Tensor) -> Any:
    """ttnn's rules for what becomes an integer; of floats the rounding is formats.stored's."""
    to = getattr(ttnn, attrs["dtype"])
    if to not in (ttnn.uint32, ttnn.int32, ttnn.uint8):
        return x
    return golden_function("typecast")(x, to, _ttnn_arch_name="wormhole_b0")


ELEMENTWISE: dict[str, Golden] = {
    **{op: theirs(op) for op in UNARY},
    **{op: _binary(op) for op in BINARY},
    "addcmul": theirs("addcmul", named="value"),
    "clamp": theirs("clamp", named="min max"),
    "gelu": theirs("gelu", named="fast_and_approximate_mode"),
    "round": theirs("round", named="decimals"),
    "typecast": local(_typecast),
    "where": theirs("where", "value", like=1),
}
