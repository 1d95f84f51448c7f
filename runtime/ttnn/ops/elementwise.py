"""Elementwise ops. The second operand of a sum or product may be a number, the attribute `value`; tensors broadcast
as in numpy."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder, Call


def _with_tensor_or_number(function: Call, attributes: str) -> Builder:
    with_tensor, with_number = calls(function, attributes), calls(function, values="value")
    return lambda attrs, context: (with_number if "value" in attrs else with_tensor)(attrs, context)


ELEMENTWISE: dict[str, Builder] = {
    "add": _with_tensor_or_number(ttnn.add, "dtype"),
    "subtract": calls(ttnn.subtract, "dtype"),
    "multiply": _with_tensor_or_number(ttnn.multiply, "activations dtype"),
    "divide": calls(ttnn.divide, "dtype"),
    "eq": _with_tensor_or_number(ttnn.eq, ""),
    "silu": calls(ttnn.silu),
    "tanh": calls(ttnn.tanh),
    "sin": calls(ttnn.sin),
    "cos": calls(ttnn.cos),
    "rsqrt": calls(ttnn.rsqrt),
    "square": calls(ttnn.square),
    "round": calls(ttnn.round),
    "clamp": calls(ttnn.clamp, "min max"),
    "addcmul": calls(ttnn.addcmul, "value"),
    "typecast": calls(ttnn.typecast, "dtype"),
}
