"""What chips send each other, of this compiler's ttnn programs and, modelled, of TT-DiT's scheme for the same model.

Bytes are defined in compiler/partition/cost.py: what a chip puts on its links, the mean over all chips. Ours are
counted from the lowered instructions that run. TT-DiT's come from the same model, traced and partitioned by the same
code, as gathering.py says; modelled, not measured.

How TT-DiT runs Mochi is read from its public sources: `pipeline_mochi.py` calls the transformer once for each of the
two prompts, with the text encoder on the host; `transformer_mochi.py` and `attention_mochi.py` gather each block's
weights, the modulations' too, along the sequence axis at each use (`is_fsdp`); `vae_mochi.py` gathers activations for
its group norms where it cuts space; the meshes are those that its tests and README name.
"""

from dataclasses import dataclass

import torch

from mochi_aot.artifacts.layout import PUBLISHED_STEPS
from mochi_aot.compiler.compile import optimised
from mochi_aot.compiler.from_config import SeededSource, programs_of_config
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.liveness import peak_bytes
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.programs import rated_programs
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import Decode
from mochi_aot.compiler.trace.export import trace
from mochi_aot.tools.benchmarks.gathering import (
    DECODERS,
    SEQUENCE_AXES,
    GatheringScheme,
    decoder_scheme,
    transformer_scheme,
)
from mochi_aot.tools.benchmarks.one_prompt import OnePrompt

OURS, THEIRS = "mochi-aot", "TT-DiT"
STEPS = PUBLISHED_STEPS
TOKENS = 32  # a chip's visual tokens are whole tiles, in both schemes
# How often a program runs in a guided video.
RUNS = {
    OURS: {"encode_text": 2, "prepare_prompt": 1, "prepare_steps": 1, "denoise": STEPS, "decode": 1},
    THEIRS: {"denoise": 2 * STEPS, "decode": 1},
}


@dataclass(frozen=True)
class ProgramTraffic:
    """One run of a program on one chip. `peak_bytes` is modelled for both schemes: see liveness.py."""

    scheme: str
    role: str
    mesh: Mesh
    plan: str
    modelled: bool  # ops, collectives and bytes are of the partitioned program, not of what was lowered
    ops: int
    collectives: dict[str, int]
    sent_bytes: int
    peak_bytes: int
    runs: int  # in a video


def our_traffic(
    config: MochiConfig, geometry: Geometry, mesh: Mesh, weights_dtype: str, links_dtype: str
) -> list[ProgramTraffic]:
    """Of each ttnn program. Raises PlanError or LoweringError where one cannot be made."""
    made = programs_of_config(config, geometry, mesh, weights_dtype, links_dtype).all_or_error()
    return [
        ProgramTraffic(
            scheme=OURS,
            role=role,
            mesh=mesh,
            plan=program.plan,
            modelled=False,
            ops=len(program.instructions),
            collectives=program.stats.collectives,
            sent_bytes=program.stats.collective_bytes,
            peak_bytes=peak_bytes(made.partitioned[role]),
            runs=RUNS[OURS].get(role, 0),
        )
        for role, program in made.programs.items()
    ]


def their_traffic(config: MochiConfig, geometry: Geometry, mesh: Mesh) -> list[ProgramTraffic]:
    """Modelled; nothing for a mesh that TT-DiT does not publish. Raises PlanError if its plan cannot cut this model."""
    if mesh not in SEQUENCE_AXES:
        return []
    decoder_mesh, decoder_plan = DECODERS[mesh]
    step = denoise_program(config, geometry, "bfloat16")
    decode = trace("decode", lambda: Decode(config, geometry, torch.bfloat16), {}, "frames")
    return [
        _modelled(step, mesh, transformer_scheme(SEQUENCE_AXES[mesh], TOKENS)),
        _modelled(_folded(decode, config), decoder_mesh, decoder_scheme(decoder_plan)),
    ]


def denoise_program(config: MochiConfig, geometry: Geometry, dtype: str) -> Program:
    """Return the velocity under one prompt, with all that depends on the step inside: its rate is not told from the
    latent's.

    What depends on the prompt alone is left out, as TT-DiT's is done once.
    """
    rates = {"prompt_embeds": "prompt", "prompt_attention_mask": "prompt"}
    traced = trace("denoise", lambda: OnePrompt(config, geometry, getattr(torch, dtype)), rates, "velocity")
    return _folded(traced, config)


def _folded(traced: Program, config: MochiConfig) -> Program:
    return rated_programs(traced, SeededSource(config))[traced.name]


def _modelled(program: Program, mesh: Mesh, scheme: GatheringScheme) -> ProgramTraffic:
    try:
        placed = optimised(scheme.partition(program, mesh))
    except PlanError as error:
        raise PlanError(f"{THEIRS}'s scheme does not fit this model and video: {error}") from error
    cost = cost_of(placed)
    return ProgramTraffic(
        scheme=THEIRS,
        role=program.name,
        mesh=mesh,
        plan=scheme.plan.name,
        modelled=True,
        ops=len(placed.ops),
        collectives=cost.collectives,
        sent_bytes=cost.collective_bytes,
        peak_bytes=peak_bytes(placed),
        runs=RUNS[THEIRS][program.name],
    )
