"""Runs a ttnn program on the CPU by the runtime's own executor and op table, a torch tensor a chip."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.tools.golden.stand_in import stand_in
from mochi_aot.tools.golden.types import ChipMesh, Chips

Observe = Callable[[int, Instruction, list[Chips]], None]
Whole = np.ndarray | Tensor


def run_golden(
    program: Program,
    mesh: ChipMesh,
    inputs: Mapping[str, Whole | Chips],
    weights: Mapping[str, Chips],
    observe: Observe | None = None,
) -> dict[str, Tensor]:
    """Outputs by name as whole tensors of spec.shape, in the torch dtype that holds spec.dtype.

    `inputs` are whole arrays, or tensors on chips as run_on_chips gives them; others are as there.
    """
    values = {
        source.name: place(inputs[source.name], source.spec, mesh) for source in program.inputs if source.name in inputs
    }
    outputs = run_on_chips(program, mesh, values, weights, observe)
    return {output.name: assemble(outputs[output.name].pieces, output.spec, mesh.grid) for output in program.outputs}


def run_on_chips(
    program: Program,
    mesh: ChipMesh,
    inputs: Mapping[str, Chips],
    weights: Mapping[str, Chips],
    observe: Observe | None = None,
) -> dict[str, Chips]:
    """Outputs by name, ready to be another program's inputs.

    `weights` are as the program sees them, prepared and as `mesh` holds them. After each instruction, observe(index,
    instruction, results). Raises what the executor does: BackendError, naming the instruction where there is one.
    """
    watch = None if observe is None else lambda index, made: observe(index, program.instructions[index], made)
    with torch.inference_mode(), stand_in(mesh):
        return TtnnExecutable(program, mesh, weights).run(inputs, watch)


def chip_mesh(shape: tuple[int, int], rounded: bool = True, defects: bool = True) -> ChipMesh:
    """The mesh of so many rows and columns."""
    return ChipMesh(Mesh(*shape), rounded, defects)


def place(whole: Whole | Chips, spec: TensorSpec, mesh: ChipMesh) -> Chips:
    """A whole tensor as the program holds it: rounded, cut, padded with zeros. What is on chips stays as it is."""
    if isinstance(whole, Chips):
        return whole
    tensor = torch.as_tensor(np.array(whole)) if isinstance(whole, np.ndarray) else whole
    dtype = DTYPES[spec.dtype]
    return Chips(split(mesh.held(tensor, dtype), spec, mesh.grid), dtype, LAYOUTS[spec.layout])


def describe(index: int, instruction: Instruction) -> str:
    """Which instruction, for messages."""
    return f"instruction {index} {instruction.op} ({instruction.loc})"
