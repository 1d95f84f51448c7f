"""Elementwise ops. A second operand may be a number, the attribute `value`; tensors broadcast as in numpy."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder, Call


def _unary(function: Call, attributes: str = "") -> Builder:
    return calls(function, f"memory_config {attributes}")


def _binary(function: Call) -> Builder:
    with_tensor = calls(function, "activations dtype memory_config")
    with_number = calls(function, "dtype memory_config", values="value")
    return lambda attrs, context: (with_number if "value" in attrs else with_tensor)(attrs, context)


ELEMENTWISE: dict[str, Builder] = {
    "add": _binary(ttnn.add),
    "subtract": _binary(ttnn.subtract),
    "multiply": _binary(ttnn.multiply),
    "divide": _binary(ttnn.divide),
    "eq": _binary(ttnn.eq),
    "silu": _unary(ttnn.silu),
    "gelu": _unary(ttnn.gelu, "fast_and_approximate_mode"),
    "tanh": _unary(ttnn.tanh),
    "sin": _unary(ttnn.sin),
    "cos": _unary(ttnn.cos),
    "exp": _unary(ttnn.exp),
    "rsqrt": _unary(ttnn.rsqrt),
    "reciprocal": _unary(ttnn.reciprocal),
    "square": _unary(ttnn.square),
    "isfinite": _unary(ttnn.isfinite),
    "round": _unary(ttnn.round, "decimals"),
    "clamp": _unary(ttnn.clamp, "min max"),
    "addcmul": _unary(ttnn.addcmul, "value"),
    "typecast": _unary(ttnn.typecast, "dtype"),
    # where(condition, a): a where the condition is 1, else the number
    "where": calls(ttnn.where, "memory_config", values="value"),
}
