"""Runs any program at any stage in numpy. What the ops mean is what this computes.

Without a mesh there is one device. A partitioned program runs on all devices of its mesh in step.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.last_uses import dead_after
from mochi_aot.compiler.ir.numpy_ops import LOCAL, MOVES, ON_MESH
from mochi_aot.compiler.ir.numpy_values import (
    Devices,
    Mesh,
    assemble,
    distribute,
    once_each,
    padding,
    quantised,
    round_bfloat16,
    store,
)
from mochi_aot.compiler.ir.program import (
    VALUES,
    Checkpoint,
    Computed,
    Concat,
    Constant,
    Op,
    Param,
    Program,
    Quantised,
    Recipe,
    Value,
)
from mochi_aot.compiler.ir.text import op_text
from mochi_aot.compiler.ir.types import TensorType

Params = Callable[[Param], np.ndarray] | Mapping[str, np.ndarray]


def run(
    program: Program, inputs: Mapping[str, np.ndarray], params: Params, poison: float | None = None
) -> dict[str, np.ndarray]:
    """Return outputs by name, global and unpadded; bfloat16 values are float32 arrays.

    `inputs` are global arrays by name. `params` gives the global array of each parameter, by the value's name or by
    a function of the Param. Constants bring their own data. A Concat parameter %x is given by its parts, which are
    asked for as parameters named x.0, x.1, ... What is quantised is given by its matrix, in float32. A mapping may
    also name a parameter or part by its checkpoint name or by the output that computes it. Padding is zero, or
    `poison` if given (float values; True for bool): results must not depend on it. Outputs may share memory with
    inputs and constants: treat them as read-only.

    Raise IRError for missing or misshapen arrays, for replicas of an output that differ, and for an op that fails,
    which it prints.
    """
    mesh = program.mesh or (1, 1)
    held = _arguments(program, mesh, inputs, params, poison)
    dead = dead_after([op.values for op in program.ops], {output.value for output in program.outputs})
    for op, dying in zip(program.ops, dead, strict=True):
        operands = [held[value] for value in op.operands]
        held.update(zip(op.results, _located(op, mesh, operands, poison), strict=True))
        for value in dying:
            del held[value]
    return {output.name: _assembled(output.value, held, mesh) for output in program.outputs}


def evaluate(op: Op, mesh: Mesh, operands: list[Devices], poison: float | None = None) -> list[Devices]:
    """Evaluate one op on what the devices hold.

    Raise ValueError, KeyError, IndexError or TypeError if operands do not fit.
    """
    if op.opcode in ON_MESH:
        fill = padding(op.results[0].type.dtype, poison)
        results = list(ON_MESH[op.opcode](mesh, op.attrs, fill, *operands))
    else:
        function = LOCAL[op.opcode]
        made = once_each(lambda *arrays: _tuple(function(op.attrs, *arrays)), operands)
        results = [list(devices) for devices in zip(*made, strict=True)]
    return [_finished(op, value.type, devices) for value, devices in zip(op.results, results, strict=True)]


def _tuple(results: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return results if isinstance(results, tuple) else (results,)


def _finished(op: Op, type: TensorType, devices: Devices) -> Devices:
    """Return results as their type says: rounded if they are bfloat16, and of the right shape and dtype."""

    def finish(array: np.ndarray) -> np.ndarray:
        if array.ndim == 0:  # numpy gives scalars, and not always of the operands' dtype
            array = np.asarray(array, DTYPES[type.dtype].held)
        if array.shape != type.local_shape or array.dtype != DTYPES[type.dtype].held:
            raise ValueError(f"made {array.dtype}{list(array.shape)}")
        return round_bfloat16(array) if type.dtype == "bfloat16" and op.opcode not in MOVES else array

    return once_each(finish, [devices])


def _located(op: Op, mesh: Mesh, operands: list[Devices], poison: float | None) -> list[Devices]:
    try:
        with np.errstate(over="ignore"):
            return evaluate(op, mesh, operands, poison)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise IRError(f"{type(error).__name__}: {error}\n  {op_text(op)}") from error


def _assembled(value: Value, held: Mapping[Value, Devices], mesh: Mesh) -> np.ndarray:
    try:
        return assemble(held[value], value.type, mesh)
    except ValueError as error:
        raise IRError(f"%{value.name}: {error}") from error


def _arguments(
    program: Program, mesh: Mesh, inputs: Mapping[str, np.ndarray], params: Params, poison: float | None
) -> dict[Value, Devices]:
    """Return what each device holds of inputs and parameters."""
    expected = {item.value.name for item in program.inputs}
    if set(inputs) != expected:
        raise IRError(f"@{program.name} has inputs {sorted(expected)}, given {sorted(inputs)}")

    def spread(array: np.ndarray, value: Value) -> Devices:
        try:
            return distribute(store(array, value.type), value.type, mesh, poison)
        except ValueError as error:
            raise IRError(f"%{value.name}: {error}") from error

    def made(param: Param) -> Devices:
        recipe = param.recipe
        if not isinstance(recipe, Concat):
            return spread(_array(param, params), param.value)
        named = [(f"{param.value.name}.{i}", part, type) for i, (part, type) in enumerate(recipe.parts)]
        parts = [made(Param(Value(name, type), part)) for name, part, type in named]
        return once_each(lambda *arrays: np.concatenate(arrays, recipe.dim), parts)

    held = {item.value: spread(inputs[item.value.name], item.value) for item in program.inputs}
    held.update((param.value, made(param)) for param in program.params)
    return held


def _array(param: Param, params: Params) -> np.ndarray:
    """Return the global array of a parameter that is not a Concat."""
    if isinstance(param.recipe, Constant):
        return param.recipe.array
    if isinstance(param.recipe, Quantised):
        matrix = _array(Param(param.value, Checkpoint(param.recipe.name)), params)
        return quantised(matrix)[0 if param.recipe.part == VALUES else 1]
    if not isinstance(params, Mapping):
        return params(param)
    keys = [param.value.name, _source(param.recipe)]
    for key in keys:
        if key in params:
            return params[key]
    raise IRError(f"no array for parameter %{param.value.name}, looked for {' and '.join(map(repr, keys))}")


def _source(recipe: Recipe) -> str:
    """Return the checkpoint name or output that a leaf recipe names."""
    if isinstance(recipe, Checkpoint):
        return recipe.name
    assert isinstance(recipe, Computed)
    return recipe.output
