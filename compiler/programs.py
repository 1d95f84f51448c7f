"""From a model's configuration to its programs for one device: trace, simplify, split by rates, batch, fold."""

import numpy as np
import torch

from mochi_aot.artifacts.layout import PUBLISHED_STEPS
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Param, Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.lower.weights import Source
from mochi_aot.compiler.passes.batch import batch
from mochi_aot.compiler.passes.fold import fold_computed
from mochi_aot.compiler.passes.rates import split_by_rates
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.passes.tables import read_tables
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.units import UNITS, Unit
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES
from mochi_aot.compiler.trace.export import trace

STEP_CAPACITY = PUBLISHED_STEPS  # rows of the step tables
RATE_ROLES = {"prompt": "prepare_prompt", "step": "prepare_steps"}


def build_programs(config: MochiConfig, geometry: Geometry, dtype: str, source: Source) -> dict[str, Program]:
    """The programs by role, verified, without a mesh; `source` gives the weights that constants are computed from."""
    programs: dict[str, Program] = {}
    for unit in UNITS:
        programs.update(_unit_programs(unit, config, geometry, dtype, source))
    return programs


def _unit_programs(
    unit: Unit, config: MochiConfig, geometry: Geometry, dtype: str, source: Source
) -> dict[str, Program]:
    traced = trace(unit.name, lambda: unit.build(config, geometry, TORCH_DTYPES[dtype]), unit.rates, *unit.outputs)
    return rated_programs(traced, source)


def rated_programs(traced: Program, source: Source) -> dict[str, Program]:
    """The programs by role that a traced module is cut into, the fastest by the module's name."""
    verify(traced)
    parts = {rate: simplify(program) for rate, program in split_by_rates(simplify(traced)).items()}
    constants = _run_once(parts.pop("geometry", None), source)
    if "step" in parts:
        parts["step"] = batch(parts["step"], "step", STEP_CAPACITY)
        parts["latent"] = read_tables(parts["latent"], "step", STEP_CAPACITY)
    roles: dict[str, Program] = {}
    for rate, program in parts.items():
        role = traced.name if program.name == traced.name else RATE_ROLES[rate]
        roles[role] = simplify(fold_computed(program, constants))
        roles[role].name = role
        verify(roles[role])
    return roles


def _run_once(program: Program | None, source: Source) -> dict[tuple[str, str], np.ndarray]:
    """Outputs of the program of what never changes, by program and output name."""
    if program is None:
        return {}
    verify(program)

    def read(param: Param) -> np.ndarray:
        assert isinstance(param.recipe, Checkpoint)
        return source.read(param.recipe.name).to(torch.float32).numpy()

    return {(program.name, name): array for name, array in run(program, {}, read).items()}
