"""Seconds by the model of compiler/lower/ttnn/seconds.py: of this compiler's programs, and of TT-DiT's scheme.

Ours are the lowered programs. TT-DiT's step is the same model under one prompt, partitioned on the axes that TT-DiT
cuts and lowered by the same rules, with what its sources do otherwise:

- weights and modulations are gathered over the sequence axis at each use (`transformer_mochi.py`, `is_fsdp`),
- ring attention works in chunks of 128 queries and 512 keys (`attention_mochi.py`),
- norms, gates and biases of both streams are done on a chip's share of the channels (`DistributedRMSNorm`),
- patches are cut and joined on the host, whose time is not the chips'.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mochi_aot.compiler.compile import compile_program, optimised
from mochi_aot.compiler.from_config import programs_of_config
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.ttnn.chip_constants import machine_of
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.seconds import Call, Kind, calls_of, instruction_seconds, kind_of, seconds_by_kind
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plans import transformer_plan
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.tools.benchmarks.gathering import SEQUENCE_AXES, transformer_scheme
from mochi_aot.tools.benchmarks.traffic import OURS, RUNS, THEIRS, TOKENS, denoise_program

STEP = "denoise"
THEIR_CHUNKS = [128, 512]
THEIR_FORWARDS = 2  # in a guided step: one a prompt
THEIR_STEPS = 50
# Seconds of a video that TT-DiT publishes: 848x480, 168 frames, 50 guided steps.
PUBLISHED = {(2, 4): 1260.0, (4, 8): 391.0}
# Of them, by the limits of its tests, what is not the denoising: the text encoder and the decoder.
THEIR_REST = {(2, 4): 8.0 + 55.0, (4, 8): 8.0 + 22.0}


@dataclass(frozen=True)
class ProgramSeconds:
    """Modelled seconds of one run of a program on the chips, by kind of op; `runs` in a video."""

    scheme: str
    role: str
    plan: str
    ops: int
    runs: int
    by_kind: dict[Kind, float]

    @property
    def seconds(self) -> float:
        """Of all kinds."""
        return sum(self.by_kind.values())


def our_seconds(
    config: MochiConfig, geometry: Geometry, mesh: Mesh, weights_dtype: str, links_dtype: str
) -> list[ProgramSeconds]:
    """Return the seconds of each ttnn program. Raise PlanError or LoweringError where one cannot be made."""
    made = programs_of_config(config, geometry, mesh, weights_dtype, links_dtype).all_or_error()
    return [
        ProgramSeconds(
            scheme=OURS,
            role=role,
            plan=program.plan,
            ops=len(program.instructions),
            runs=RUNS[OURS].get(role, 0),
            by_kind=seconds_by_kind(
                calls_of(program.instructions, made.tensors[role], mesh, machine_of(mesh)), traced=role == STEP
            ),
        )
        for role, program in made.programs.items()
    ]


def their_seconds(config: MochiConfig, geometry: Geometry, mesh: Mesh) -> ProgramSeconds | None:
    """Return the seconds of a forward of TT-DiT's, or None for a mesh that it does not publish.

    Raise PlanError or LoweringError if its plan cannot cut this model.
    """
    if mesh not in SEQUENCE_AXES:
        return None
    axis = SEQUENCE_AXES[mesh]
    traced = denoise_program(config, geometry, "bfloat16")
    plan = transformer_plan(axis, TOKENS)
    placed = compile_program(traced, mesh, plan)
    lowered = lower(Lowerer(placed.program, mesh, "bfloat16"), plan.name, placed.cost)
    calls = calls_of(lowered.program.instructions, lowered.tensors, mesh, machine_of(mesh))
    gathered = optimised(transformer_scheme(axis, TOKENS).partition(traced, mesh))
    calls = [*_as_theirs(calls), *_weight_gathers(gathered, mesh)]
    by_kind: dict[Kind, float] = {}
    for call in calls:
        kind = kind_of(call)
        share = mesh[1 - axis] if _of_a_stream(call, kind) else 1
        by_kind[kind] = by_kind.get(kind, 0.0) + instruction_seconds(call, traced=True) / share
    runs = RUNS[THEIRS][STEP]
    return ProgramSeconds(THEIRS, STEP, plan.name, len(calls), runs, by_kind)


def _as_theirs(calls: Iterable[Call]) -> Iterator[Call]:
    """With their chunks of attention; patches are the host's."""
    for call in calls:
        if kind_of(call) is Kind.ROWS:
            continue
        is_ring = kind_of(call) is Kind.ATTENTION
        yield replace(call, attrs={**call.attrs, "program_config": THEIR_CHUNKS}) if is_ring else call


def _of_a_stream(call: Call, kind: Kind) -> bool:
    """Whether a norm, gate or bias works on [batch, tokens, channels]; heads have four dimensions."""
    return kind is Kind.ELEMENTWISE and len(call.results[0].shape) == 3


@dataclass(frozen=True)
class _Piece:
    shape: tuple[int, ...]
    dtype: str
    layout: str = "tile"


def _weight_gathers(program: Program, mesh: Mesh) -> list[Call]:
    """Return the gathers of weights at their use, of their partitioned program."""
    weights = {param.value for param in program.params}
    gathers = [op for op in program.ops if op.opcode == "all_gather" and op.operands[0] in weights]
    return [
        Call(
            "all_gather",
            {"axis": op.attrs["axis"]},
            [_Piece(op.operands[0].type.local_shape, "bfloat16")],
            [_Piece(op.result.type.local_shape, "bfloat16")],
            mesh,
            machine_of(mesh),
        )
        for op in gathers
    ]
