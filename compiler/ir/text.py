"""The text form of programs: one line an op, read back by `parser.parse`. Constants' data travel beside the text."""

import json

import numpy as np

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.ir.program import (
    Attrs,
    Checkpoint,
    Computed,
    Constant,
    Input,
    Op,
    Output,
    Param,
    Program,
    Quantised,
    Recipe,
    Value,
)
from mochi_aot.compiler.ir.types import Partial, Placement, Shard, TensorType


def to_text(program: Program) -> str:
    """Return the whole program as text."""
    mesh = f" mesh={program.mesh[0]}x{program.mesh[1]}" if program.mesh else ""
    lines = [f"program @{program.name}{mesh} {{"]
    lines += [f"  {input_text(item)}" for item in program.inputs]
    lines += [f"  {param_text(param)}" for param in program.params]
    lines += [f"  {op_text(op)}" for op in program.ops]
    lines += [f"  {output_text(output)}" for output in program.outputs]
    return "\n".join([*lines, "}", ""])


def input_text(item: Input) -> str:
    """Return one input on one line, as in `to_text`; errors quote it."""
    return f"input {_definition(item.value)} rate={item.rate}"


def param_text(param: Param) -> str:
    """Return one parameter on one line, as in `to_text`; errors quote it."""
    return f"param {_definition(param.value)} = {recipe_text(param.recipe)}"


def output_text(output: Output) -> str:
    """Return one output on one line, as in `to_text`; errors quote it."""
    return f"return {json.dumps(output.name)} %{output.value.name}"


def op_text(op: Op) -> str:
    """Return one op on one line, as in `to_text`; errors quote it."""
    results = ", ".join(f"%{value.name}" for value in op.results)
    operands = ", ".join(f"%{value.name}" for value in op.operands)
    attrs = f" {attrs_text(op.attrs)}" if op.attrs else ""
    types = ", ".join(type_text(value.type) for value in op.results)
    loc = f"  loc {json.dumps(op.loc)}" if op.loc else ""
    return f"{results} = {op.opcode}({operands}){attrs} : {types}{loc}"


def attrs_text(attrs: Attrs) -> str:
    """Return the attributes with JSON values: `{dims=[0, 2], scale=0.125}`."""
    return "{" + ", ".join(f"{key}={json.dumps(value, default=repr)}" for key, value in attrs.items()) + "}"


def type_text(type: TensorType) -> str:
    """Return a type: `f32[1,512]`, and in a partitioned program `f32[1,512]{R,S(1:128)}`."""
    dtype = DTYPES[type.dtype].short if type.dtype in DTYPES else type.dtype
    placements = "{" + ",".join(_placement_text(p) for p in type.placements) + "}" if type.placements else ""
    return f"{dtype}[{','.join(map(str, type.shape))}]{placements}"


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe; a constant is named by the hash that `constants_of` files it under."""
    if isinstance(recipe, Checkpoint):
        return f"checkpoint({json.dumps(recipe.name)})"
    if isinstance(recipe, Computed):
        return f"computed({json.dumps(recipe.program)}, {json.dumps(recipe.output)})"
    if isinstance(recipe, Constant):
        return f"constant({json.dumps(recipe.key)})"
    if isinstance(recipe, Quantised):
        return f"quantised({json.dumps(recipe.name)}, {json.dumps(recipe.part)})"
    parts = ", ".join(f"{recipe_text(part)} : {type_text(type)}" for part, type in recipe.parts)
    return f"concat({recipe.dim}, [{parts}])"


def constants_of(program: Program) -> dict[str, np.ndarray]:
    """Return the arrays of all constants in the program, by the keys that its text has."""
    table: dict[str, np.ndarray] = {}

    def collect(recipe: Recipe) -> None:
        if isinstance(recipe, Constant):
            table[recipe.key] = recipe.array
        elif not isinstance(recipe, Checkpoint | Computed | Quantised):
            for part, _ in recipe.parts:
                collect(part)

    for param in program.params:
        collect(param.recipe)
    return table


def _definition(value: Value) -> str:
    return f"%{value.name} : {type_text(value.type)}"


def _placement_text(placement: Placement) -> str:
    if isinstance(placement, Shard):
        return f"S({placement.dim}:{placement.chunk})"
    return "P" if isinstance(placement, Partial) else "R"
