"""Per-step tables: large rows as embedding tables in bfloat16, single numbers in float32."""

import math

from mochi_aot.artifacts.roles import ROLES, STEP
from mochi_aot.compiler.ir.program import Input
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Lowerer, Shape, Tensor

# Rows at most this long stay float32 and are picked by a masked sum; ttnn's embedding takes bfloat16 tables alone,
# whose 8 bits are enough for a modulation but not for a noise level.
MAX_EXACT_ROW = 32
Form = tuple[Shape, str, str]


def makes_tables(program: str) -> bool:
    """Return whether the outputs of the program of this role are tables: a row for each step."""
    return program in ROLES and ROLES[program].rate == STEP


def is_table(program: str, item: Input) -> bool:
    """Return whether an input of the program of this role is a table that another program has made.

    Rows that the host gives for each step, such as noise levels, are no tables.
    """
    return item.rate == STEP and program in ROLES and item.value.name not in ROLES[program].inputs


def table_form(type: TensorType) -> Form:
    """Return the shape, dtype and layout in which the table is handed from program to program: [lines, line length].

    Of a batch in a long row, [steps, B, ...], each row has a line of its own: B lines a step.
    """
    steps, *row = type.local_shape
    length = math.prod(row)
    if length <= MAX_EXACT_ROW:
        return (steps, length), "float32", TILE
    batch = row[0] if len(row) > 1 else 1
    return (steps * batch, length // batch), "bfloat16", ROW_MAJOR


def to_table(lowerer: Lowerer, tensor: Tensor, form: Form) -> Tensor:
    """Return `tensor` [rows, ...] in the form of a table."""
    shape, dtype, layout = form
    tensor = lowerer.to_layout(lowerer.to_dtype(lowerer.to_layout(tensor, TILE), dtype), layout)
    return tensor if tensor.shape == shape else lowerer.emit("reshape", [tensor], shape, shape=list(shape))
