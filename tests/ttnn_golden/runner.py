"""Runs a ttnn program on the CPU: a torch tensor a chip, each instruction by GOLDEN, values rounded as chips do."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from tests.ttnn_golden.formats import STORAGE, stored
from tests.ttnn_golden.ops import GOLDEN
from tests.ttnn_golden.types import GoldenError, Value

Observe = Callable[[int, Instruction, list[Value]], None]
Whole = np.ndarray | Tensor


def run_golden(
    program: Program,
    mesh: tuple[int, int],
    inputs: Mapping[str, Whole | Value],
    weights: Mapping[str, Value],
    observe: Observe | None = None,
) -> dict[str, Tensor]:
    """Outputs by name as whole tensors of spec.shape, in the torch dtype that holds spec.dtype.

    `inputs` are whole arrays, or Values as run_on_chips gives them; others are as there.
    """
    grid = Mesh(*mesh)
    values = {
        source.name: place(inputs[source.name], source.spec, mesh) for source in program.inputs if source.name in inputs
    }
    outputs = run_on_chips(program, mesh, values, weights, observe)
    return {output.name: assemble(outputs[output.name], output.spec, grid) for output in program.outputs}


def run_on_chips(
    program: Program,
    mesh: tuple[int, int],
    inputs: Mapping[str, Value],
    weights: Mapping[str, Value],
    observe: Observe | None = None,
) -> dict[str, Value]:
    """Outputs by name as Values, ready to be another program's inputs.

    `weights` are as the program sees them, prepared and rounded (`formats.stored`). After each instruction,
    observe(index, instruction, results). Raises GoldenError, naming the instruction where there is one.
    """
    alive = _sources(program, Mesh(*mesh), inputs, weights)
    with torch.inference_mode():
        for index, instruction in enumerate(program.instructions):
            try:
                results = _run(instruction, Mesh(*mesh), alive)
            except Exception as error:
                raise GoldenError(f"{program.name}, {describe(index, instruction)}: {error!r}") from error
            if observe is not None:
                observe(index, instruction, results)
            alive.update(zip(instruction.results, results, strict=True))
            for value in instruction.free:
                if alive.pop(value, None) is None:
                    raise GoldenError(
                        f"{program.name}, {describe(index, instruction)}: frees {value}, which is not alive"
                    )
    return {output.name: alive[output.value] for output in program.outputs}


def place(whole: Whole | Value, spec: TensorSpec, mesh: tuple[int, int]) -> Value:
    """A whole tensor as the program holds it: rounded, cut, padded with zeros. A Value stays as it is."""
    if isinstance(whole, list):
        return whole
    tensor = torch.as_tensor(np.array(whole)) if isinstance(whole, np.ndarray) else whole
    return split(stored(tensor, spec.dtype), spec, Mesh(*mesh))


def describe(index: int, instruction: Instruction) -> str:
    """Which instruction, for messages."""
    return f"instruction {index} {instruction.op} ({instruction.loc})"


def _sources(
    program: Program, mesh: Mesh, inputs: Mapping[str, Value], weights: Mapping[str, Value]
) -> dict[int, Value]:
    alive = {}
    for source in program.inputs:
        alive[source.value] = _found(inputs, source.name, "input", program, mesh)
        _check(alive[source.value], source.spec, f"{program.name}, input {source.name!r}")
    for weight in program.weights:
        alive[weight.value] = _found(weights, weight.name, "weight", program, mesh)
    return alive


def _found(values: Mapping[str, Value], name: str, kind: str, program: Program, mesh: Mesh) -> Value:
    if name not in values:
        raise GoldenError(f"{program.name} needs {kind} {name!r}; given are {', '.join(sorted(values)) or 'none'}")
    if len(values[name]) != mesh.size:
        raise GoldenError(f"{program.name}, {kind} {name!r}: {len(values[name])} tensors for {mesh.size} chips")
    return values[name]


def _check(value: Value, spec: TensorSpec, what: str) -> None:
    seen = {(tuple(tensor.shape), tensor.dtype) for tensor in value}
    expected = (tuple(spec.local_shape), STORAGE[spec.dtype])
    if seen != {expected}:
        raise GoldenError(f"{what}: expected {expected} on every chip, seen {seen}")


def _run(instruction: Instruction, mesh: Mesh, alive: Mapping[int, Value]) -> list[Value]:
    if instruction.op not in GOLDEN:
        raise GoldenError(f"{instruction.op} has no golden definition")
    freed = [value for value in instruction.operands if value not in alive]
    if freed:
        raise GoldenError(f"values {freed} are freed already, or not made yet")
    attrs: dict[str, Any] = dict(instruction.attrs)
    results = GOLDEN[instruction.op](attrs, mesh, *(alive[value] for value in instruction.operands))
    if len(results) != len(instruction.results):
        raise GoldenError(f"{len(results)} results where the instruction has {len(instruction.results)}")
    return results
