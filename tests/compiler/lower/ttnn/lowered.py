"""Small programs lowered for ttnn, and what they give by the ops' definitions."""

from collections.abc import Mapping

import numpy as np
import torch

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.program import Lowered, lower
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.simplify import simplify
from tests.ttnn_golden.lowered_model import weights_on_chips
from tests.ttnn_golden.runner import chip_mesh, run_golden


class Tensors:
    """A checkpoint of these tensors."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        return self._tensors[name][index]


def lowered(program: Program, mesh: Mesh, plan: Plan) -> Lowered:
    """A program without a mesh, partitioned and lowered."""
    placed = simplify(partition(program, mesh, plan))
    return lower(Lowerer(placed, mesh, "bfloat16"), plan.name, cost_of(placed))


def golden_outputs(
    low: Lowered, mesh: Mesh, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Whole outputs by name."""
    chips = chip_mesh(mesh)
    return run_golden(low.program, chips, inputs, weights_on_chips(low.weights, Tensors(parameters), chips))
