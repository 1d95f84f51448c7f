"""Elementwise functions, all of them ttnn's own definitions."""

from typing import Any

import ttnn
from torch import Tensor

from mochi_aot.tools.golden.local import golden_function, local, on_each_chip, theirs
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition

INTEGERS = (ttnn.uint32, ttnn.int32, ttnn.uint8)


def _binary(op: str) -> Definition:
    """With a tensor or a number; then come `activations`."""
    function = golden_function(op)

    def call(a: Tensor, b: Tensor | float, activations: Any = ()) -> Any:
        return function(a, b, activations=[activation.op_type for activation in activations])

    return local(call, "activations dtype")


def _typecast(mesh: ChipMesh, x: Chips, *, dtype: ttnn.DataType) -> Any:
    """ttnn's rules for what becomes an integer; of floats the rounding is formats.stored's."""

    def call(piece: Tensor) -> Any:
        return golden_function("typecast")(piece, dtype, _ttnn_arch_name="wormhole_b0") if dtype in INTEGERS else piece

    return on_each_chip(mesh, call, [x], {}, dtype, x.layout)


THEIRS: dict[str, Definition] = {
    **{op: theirs(op) for op in ("silu", "sigmoid", "tanh", "sin", "cos", "rsqrt", "sqrt", "square", "round")},
    **{op: _binary(op) for op in ("add", "subtract", "multiply", "divide", "eq")},
    "addcmul": theirs("addcmul", "value"),
    "clamp": theirs("clamp", "min max"),
    "typecast": _typecast,
}
OURS: dict[str, Definition] = {}
