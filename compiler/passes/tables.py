"""Reads per-step values from tables: the other half of batching over the steps."""

from mochi_aot.artifacts.roles import LATENT
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Program, Value
from mochi_aot.compiler.ir.types import TensorType

INDEX = "step"  # the input's name


def read_tables(program: Program, rate: str, size: int) -> Program:
    """Return `program` with every input of `rate` replaced by a table of `size` rows, read at the int32[1] input
    `step`."""
    builder = Builder(program.name)
    values: dict[Value, Value] = {}
    index: Value | None = None
    for item in program.inputs:
        if item.rate != rate:
            values[item.value] = builder.input(item.value.name, item.value.type, item.rate)
            continue
        index = index or builder.input(INDEX, TensorType((1,), "int32"), LATENT)
        type = TensorType((size, *item.value.type.shape), item.value.type.dtype)
        table = builder.input(item.value.name, type, item.rate)
        values[item.value] = builder.emit("select", [table, index], {"dim": 0}, "read_tables")
    for param in program.params:
        values[param.value] = builder.param(param.value.name, param.value.type, param.recipe)
    for op in program.ops:
        builder.copy_op(op, values)
    for output in program.outputs:
        builder.output(output.name, values[output.value])
    return builder.program
