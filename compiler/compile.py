"""From a checkpoint to a bundle."""

import dataclasses
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mochi_aot.artifacts import Bundle, BundleWriter, schema
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.lower.target import Target
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.lower.ttnn.dry_run import DryRun
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.choose import choose_plans
from mochi_aot.compiler.partition.cost import Cost, cost_of
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.programs import STEP_CAPACITY, build_programs
from mochi_aot.compiler.reference.geometry import Geometry

TARGETS: dict[str, Callable[["Job", DryRun | None], Target]] = {
    "torch": lambda job, dry_run: TorchTarget(),
    "ttnn": lambda job, dry_run: TtnnTarget(job.weights_dtype, job.links_dtype, dry_run),
}


@dataclass(frozen=True)
class Job:
    """What to compile. `plans` are plan names; families that they do not name choose for themselves."""

    mesh: Mesh
    geometries: tuple[Geometry, ...]
    plans: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    target: str = "torch"
    weights_dtype: str = "bfloat16"  # of the matrices, for ttnn
    links_dtype: str = "bfloat16"  # of what chips send each other in a denoising step, for ttnn


@dataclass(frozen=True)
class ProgramSummary:
    """One program of one geometry; costs are of one run on one device."""

    geometry: str
    role: str
    plan: str
    ops: int
    cost: Cost


@dataclass(frozen=True)
class Summary:
    """What a compile made and took. Bytes; `peak_rss` is the process's, mapped pages included."""

    bundle_id: str
    programs: list[ProgramSummary]
    weight_bytes_per_device: int
    weight_bytes_on_disk: int
    weight_bytes_reused: int
    seconds: float
    peak_rss: int


class Progress:
    """What a compile reports as it goes. This one is silent."""

    def phase(self, text: str) -> None:
        """A new part of the work begins."""

    def weights(self, done: int, total: int) -> None:
        """`done` of `total` bytes that a device holds were written."""


def compile_bundle(
    checkpoint: Checkpoint,
    job: Job,
    output: Path,
    force: bool = False,
    progress: Progress | None = None,
    dry_run: DryRun | None = None,
    resume: bool = False,
    reuse: Path | None = None,
) -> Summary:
    """Writes the bundle of `checkpoint` for `job` to the folder `output`.

    `dry_run`, for ttnn, runs the programs before weights are written, and adds the kernels that this builds.
    The bundle appears whole or not at all; with `resume`, what is finished of it stays beside its place, and what an
    earlier compile has left there is used. Weights that the bundle `reuse` holds are not made again. Raises PlanError,
    GeometryError, CheckpointError and BundleError, and what the dry run raises.
    """
    progress = progress or Progress()
    started = time.monotonic()
    writer = BundleWriter(output, force, resume=resume, reuse=Bundle.open(reuse) if reuse else None)
    try:
        summary = _write_bundle(writer, checkpoint, job, progress, dry_run)
    except BaseException:
        if writer.kept:
            progress.phase(
                "what was finished is kept beside the output: --resume uses it, a compile without removes it"
            )
        raise
    return Summary(
        *summary,
        weight_bytes_on_disk=sum(file.stat().st_size for file in (output / "weights").iterdir()),
        weight_bytes_reused=writer.reused_bytes,
        seconds=time.monotonic() - started,
        peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _write_bundle(
    writer: BundleWriter, checkpoint: Checkpoint, job: Job, progress: Progress, dry_run: DryRun | None
) -> tuple[str, list[ProgramSummary], int]:
    """Returns the bundle's id, its programs, and the bytes of weights that a device holds."""
    with writer:
        tokenizer = checkpoint.tokenizer_json()
        target = TARGETS[job.target](job, dry_run)
        compiled = _compile_programs(checkpoint, job, target, progress)
        geometries = [_add_programs(writer, target, geometry, programs) for geometry, programs in compiled.items()]
        if dry_run is not None:
            progress.phase("running the programs dry")
        checked = target.check_programs(writer, geometries, job.mesh)
        progress.phase("writing weights")
        on_device = target.add_weights(writer, checkpoint, job.mesh, progress.weights)
        writer.add_tokenizer(tokenizer)
        bundle_id = writer.finish(
            target=job.target,
            mesh=list(job.mesh),
            dtype=job.dtype,
            step_capacity=STEP_CAPACITY,
            text_length=checkpoint.config.text_length,
            model=_plain(checkpoint.config),
            checkpoint={"layout": checkpoint.layout, "identity": checkpoint.identity()},
            versions=_versions(),
            geometries=checked.geometries,
            created_by=f"mochi-compile {_version('mochi-aot')}",
            mesh_settings=checked.mesh_settings,
            kernels=checked.kernels,
            **_lowered_for(job),
        )
    return bundle_id, [p.summary for programs in compiled.values() for p in programs.values()], on_device


def _lowered_for(job: Job) -> dict[str, str]:
    """What a bundle for ttnn records besides: the dtypes that only chips have, and the version of ttnn."""
    if job.target != "ttnn":
        return {}
    return {"weights_dtype": job.weights_dtype, "links_dtype": job.links_dtype, "ttnn": _version("ttnn")}


@dataclass(frozen=True)
class Compiled:
    """A partitioned program, the plan that it follows and what it costs."""

    program: Program
    plan: Plan
    summary: ProgramSummary


def _compile_programs(
    checkpoint: Checkpoint, job: Job, target: Target, progress: Progress
) -> dict[Geometry, dict[str, Compiled]]:
    traced = {}
    for geometry in job.geometries:
        progress.phase(f"tracing {geometry}")
        traced[geometry] = build_programs(checkpoint.config, geometry, job.dtype, checkpoint)
    progress.phase(f"partitioning over {job.mesh[0]}x{job.mesh[1]}")
    plans = choose_plans(list(traced.values()), job.mesh, job.plans, target.families)
    return {
        geometry: {
            role: compile_program(target.fitted(programs[role], job.mesh, plan), geometry, job.mesh, plan)
            for role, plan in plans.items()
        }
        for geometry, programs in traced.items()
    }


def compile_program(program: Program, geometry: Geometry, mesh: Mesh, plan: Plan) -> Compiled:
    """A program for one device as a verified SPMD program for the mesh. Raises PlanError."""
    program = optimised(partition(program, mesh, plan))
    cost = cost_of(program)
    return Compiled(program, plan, ProgramSummary(str(geometry), program.name, plan.name, len(program.ops), cost))


def optimised(program: Program) -> Program:
    """An SPMD program with the work that partitioning has left for later passes done; verified after each."""
    verify(program)
    for step in (simplify, merge_linears, simplify):
        program = step(program)
        verify(program)
    return program


def _add_programs(
    writer: BundleWriter, target: Target, geometry: Geometry, programs: dict[str, Compiled]
) -> schema.Geometry:
    files = {role: target.add_program(writer, c.program, c.plan.name, c.summary.cost) for role, c in programs.items()}
    return schema.Geometry(geometry.height, geometry.width, geometry.frames, files)


def _plain(value: object) -> dict[str, schema.Plain]:
    """A configuration as msgpack-able values."""

    def convert(item: object) -> schema.Plain:
        if isinstance(item, dict):
            return {str(key): convert(part) for key, part in item.items()}
        if isinstance(item, tuple):
            return [convert(part) for part in item]
        assert isinstance(item, int | float | str)
        return item

    plain = convert(dataclasses.asdict(value))  # type: ignore[call-overload]
    assert isinstance(plain, dict)
    return plain


def _versions() -> dict[str, str]:
    versions = {name: _version(name) for name in ("mochi-aot", "torch", "transformers", "ttnn")}
    return {"python": platform.python_version(), **versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
