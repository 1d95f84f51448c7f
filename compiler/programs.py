"""From a model's configuration to its programs for one device: trace, simplify, split by rates, batch, fold."""

from functools import partial

import numpy as np
import torch

from mochi_aot.artifacts.layout import PUBLISHED_STEPS
from mochi_aot.artifacts.roles import ENCODE, GEOMETRY, LATENT, STEP, roles_of
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Param, Program
from mochi_aot.compiler.lower.weights import Source
from mochi_aot.compiler.passes.batch import batch
from mochi_aot.compiler.passes.fold import fold_computed
from mochi_aot.compiler.passes.pipeline import Pipeline
from mochi_aot.compiler.passes.rates import split_by_rates
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.passes.tables import read_tables
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES, TracedModule
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES
from mochi_aot.compiler.trace.export import trace

STEP_CAPACITY = PUBLISHED_STEPS  # rows of the step tables
SILENT = Pipeline()


def build_programs(
    config: MochiConfig,
    geometry: Geometry,
    dtype: str,
    source: Source,
    pipeline: Pipeline = SILENT,
    with_encoder: bool = True,
) -> dict[str, Program]:
    """Return the programs by role, verified, without a mesh; `source` gives the weights that constants come from.

    A model without an encoder has no program for it.
    """
    programs: dict[str, Program] = {}
    for unit in TRACED_MODULES:
        if unit.name == ENCODE and not (with_encoder and config.vae.has_encoder):
            continue
        programs.update(build_module(unit, config, geometry, dtype, source, pipeline))
    return programs


def build_module(
    unit: TracedModule,
    config: MochiConfig,
    geometry: Geometry,
    dtype: str,
    source: Source,
    pipeline: Pipeline = SILENT,
) -> dict[str, Program]:
    """Return the programs of one module: see build_programs."""
    traced = pipeline.start("trace", partial(_traced, unit, config, geometry, dtype))
    return rated_programs(traced, source, pipeline)


def _traced(unit: TracedModule, config: MochiConfig, geometry: Geometry, dtype: str) -> Program:
    return trace(unit.name, lambda: unit.build(config, geometry, TORCH_DTYPES[dtype]), unit.rates, *unit.outputs)


def rated_programs(traced: Program, source: Source, pipeline: Pipeline = SILENT) -> dict[str, Program]:
    """Return the programs by role that a traced module is cut into, the fastest by the module's name."""
    parts = pipeline.split("split_by_rates", _by_rate, pipeline.apply("simplify", simplify, traced))
    parts = {rate: pipeline.apply("simplify", simplify, program) for rate, program in parts.items()}
    constants = _run_once(parts.pop(GEOMETRY, None), source)
    if STEP in parts:
        parts[STEP] = pipeline.apply("batch", lambda p: batch(p, STEP, STEP_CAPACITY), parts[STEP])
        parts[LATENT] = pipeline.apply("read_tables", lambda p: read_tables(p, STEP, STEP_CAPACITY), parts[LATENT])
    roles: dict[str, Program] = {}
    for program in parts.values():
        folded = pipeline.apply("fold", lambda p: fold_computed(p, constants), program)
        roles[program.name] = pipeline.apply("simplify", simplify, folded)
    return roles


def _by_rate(program: Program) -> dict[str, Program]:
    """Return the programs of each rate, those that a bundle holds under the names of their roles."""
    names = {role.rate: name for name, role in roles_of(program.name).items()}
    parts = split_by_rates(program)
    for rate, part in parts.items():
        if part.name != program.name:
            part.name = names.get(rate, part.name)
    return parts


def _run_once(program: Program | None, source: Source) -> dict[tuple[str, str], np.ndarray]:
    """Return the outputs of the program of what never changes, by program and output name."""
    if program is None:
        return {}

    def read(param: Param) -> np.ndarray:
        assert isinstance(param.recipe, Checkpoint)
        return source.read(param.recipe.name).to(torch.float32).numpy()

    return {(program.name, name): array for name, array in run(program, {}, read).items()}
