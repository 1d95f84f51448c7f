"""A model's ttnn programs from its configuration alone, each with the weights that it wants, or why there is none."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.schema import Program
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.compile import chosen_plans, compile_program
from mochi_aot.compiler.ir.program import Program as IRProgram
from mochi_aot.compiler.lower.ttnn.dry_run import LocalWeight, local_weight
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, LoweringError, Tensor
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.plans import families_for
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry


@dataclass(frozen=True)
class ProgramsOfConfig:
    """Programs by role in the order of a video, their weights by name, and for other roles the reason against them.

    `partitioned` are the programs before lowering, `tensors` what a chip holds of each program's values, by number.
    """

    programs: dict[str, Program]
    weights: dict[str, LocalWeight]
    failures: dict[str, str]
    partitioned: dict[str, IRProgram]
    tensors: dict[str, list[Tensor]]

    def all_or_error(self) -> "ProgramsOfConfig":
        """Return these programs. Raise LoweringError if there is a reason against any of them."""
        for role, reason in self.failures.items():
            raise LoweringError(f"{role}: {reason}")
        return self


class SeededSource:
    """A Source without a checkpoint, for the few small parameters that constants are computed from."""

    def __init__(self, config: MochiConfig) -> None:
        self._shapes = parameter_shapes(config)

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return part of a seeded tensor: see lower.weights.Source."""
        return seeded_parameter(name, self._shapes[name], seed=0)[index]


def model_config(name: str) -> MochiConfig:
    """Return the preset of this name, or the configuration of the checkpoint in this folder.

    Raise CheckpointError.
    """
    if name in PRESETS:
        return PRESETS[name]
    if not Path(name).is_dir():
        raise CheckpointError(f"{name!r} is neither a model ({', '.join(PRESETS)}) nor the folder of a checkpoint")
    return open_checkpoint(Path(name)).config


def programs_of_config(
    config: MochiConfig,
    geometry: Geometry,
    mesh: tuple[int, int],
    weights_dtype: str,
    links_dtype: str = "bfloat16",
    arch: str = WORMHOLE,
    with_encoder: bool = False,
) -> ProgramsOfConfig:
    """Trace, partition and lower each program for ttnn, without weights; the encoder too if that is wanted
    and the model has one.

    Raise GeometryError; PlanErrors and LoweringErrors are collected, each for the programs that they are about.
    """
    with_encoder = with_encoder and config.vae.has_encoder
    built = build_programs(config, geometry, "bfloat16", SeededSource(config), with_encoder=with_encoder)
    target = TtnnTarget(weights_dtype, links_dtype, arch=arch)
    made = ProgramsOfConfig({}, {}, {}, {}, {})
    for roles in families_for(target.families, with_encoder):
        try:
            chosen = chosen_plans([{role: built[role] for role in roles}], mesh, (), target)
        except PlanError as error:
            made.failures.update(dict.fromkeys(roles, str(error)))
            continue
        for role, plan in chosen.plans.items():
            try:
                partitioned = compile_program(built[role], mesh, plan, target)
                lowerer = Lowerer(partitioned.program, mesh, weights_dtype, links_dtype, arch)
                lowered = lower(lowerer, plan.name, partitioned.cost)
            except (LoweringError, PlanError) as error:
                made.failures[role] = str(error)
            else:
                made.programs[role] = lowered.program
                made.partitioned[role] = partitioned.program
                made.tensors[role] = lowered.tensors
                made.weights.update((weight.name, local_weight(weight)) for weight in lowered.weights)
    return made
