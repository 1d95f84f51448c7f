"""A small model lowered for ttnn, run program by program through the golden definitions."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.presets import BENCH
from mochi_aot.compiler.lower.ttnn.lowerer import Lowered, Lowerer, run
from mochi_aot.compiler.lower.ttnn.target import prepared_pieces
from mochi_aot.compiler.partition.choose import choose_plans
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.partition.partitioner import partition
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry
from tests.ttnn_golden.formats import stored
from tests.ttnn_golden.runner import run_golden, run_on_chips
from tests.ttnn_golden.types import Value

# Head widths and hidden sizes in whole tiles, and heads that divide by 2 and 4.
CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2))
GEOMETRY = Geometry(48, 80, 13)


@dataclass
class LoweredModel:
    """Programs by role, and their weights as chips hold them."""

    mesh: tuple[int, int]
    programs: dict[str, Lowered]
    weights: dict[str, dict[str, Value]]

    @classmethod
    def make(
        cls,
        checkpoint: Checkpoint,
        mesh: tuple[int, int],
        weights_dtype: str,
        roles: list[str],
        links_dtype: str = "bfloat16",
    ) -> "LoweredModel":
        built = build_programs(checkpoint.config, GEOMETRY, "bfloat16", checkpoint)
        families = {names: plans for names, plans in TTNN_FAMILIES.items() if set(names) & set(roles)}
        plans = choose_plans([built], mesh, (), families)
        programs = {}
        for role in roles:
            program = simplify(merge_linears(simplify(partition(built[role], mesh, plans[role]))))
            lowerer = Lowerer(program, mesh, weights_dtype, links_dtype)
            programs[role] = run(lowerer, plans[role].name, cost_of(program))
        return cls(mesh, programs, {role: _weights(low, checkpoint, mesh) for role, low in programs.items()})

    def run(self, role: str, inputs: dict[str, np.ndarray | Value]) -> dict[str, torch.Tensor]:
        """Whole outputs by name."""
        return run_golden(self.programs[role].program, self.mesh, inputs, self.weights[role])

    def on_chips(self, role: str, inputs: dict[str, Value]) -> dict[str, Value]:
        """Outputs as the chips hold them."""
        return run_on_chips(self.programs[role].program, self.mesh, inputs, self.weights[role])


def _weights(lowered: Lowered, checkpoint: Checkpoint, mesh: tuple[int, int]) -> dict[str, Value]:
    held = {}
    for weight in lowered.weights:
        pieces = prepared_pieces(weight, checkpoint, mesh)
        rounded = {id(piece): stored(piece, weight.dtype) for piece in pieces}
        held[weight.name] = [rounded[id(piece)] for piece in pieces]
    return held
