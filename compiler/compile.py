"""From a checkpoint to a bundle."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts import Bundle, BundleWriter, schema
from mochi_aot.artifacts.dtypes import NARROW_DTYPES
from mochi_aot.artifacts.memory import peak_memory
from mochi_aot.artifacts.versions import installed_version, versions
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir_files import IRFiles
from mochi_aot.compiler.job import Job, KernelSummary, ProgramSummary, Progress, Summary
from mochi_aot.compiler.kept_programs import KeptPrograms, NotedSource
from mochi_aot.compiler.lora.record import record_of
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.lower.target import Checked, Target
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.lower.ttnn.target import ttnn_target
from mochi_aot.compiler.lowered import Compiled, Lowered, add_programs, constants_were_made
from mochi_aot.compiler.partition.choose import Choice, Estimate, Programs, choose_plans
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.partition.gathered import gather_at_use
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import families_for
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.pipeline import Applied, Pipeline
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.profile import Profile
from mochi_aot.compiler.programs import SILENT, STEP_CAPACITY, build_programs
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.sizes import check_geometries

PACKAGES = ("mochi-aot", "torch", "transformers", "ttnn")  # whose versions a bundle records


class Watch:
    """Hands on what happens in a compile: to whoever watches, to its profile, and to the files of programs' text."""

    def __init__(self, progress: Progress, profile: Profile, ir_files: IRFiles | None = None) -> None:
        self.progress, self.profile, self.ir_files = progress, profile, ir_files

    def begin(self, phase: str, text: str | None = None) -> None:
        """Begin a phase of the profile, which people are told as `text`."""
        self.profile.phase(phase)
        if text is not None:
            self.progress.phase(text)

    def after_pass(self, applied: Applied) -> None:
        """See passes.pipeline.AfterPass."""
        self.profile.after_pass(applied)
        if self.ir_files is not None:
            self.ir_files.after_pass(applied)


def compile_bundle(
    checkpoint: Checkpoint | TunedCheckpoint,
    job: Job,
    output: Path,
    force: bool = False,
    progress: Progress | None = None,
    resume: bool = False,
    reuse: Path | None = None,
    print_ir: Path | None = None,
    profile: Profile | None = None,
    kept_programs: Path | None = None,
) -> Summary:
    """Write the bundle of `checkpoint` for `job` to the folder `output`.

    Programs for ttnn run dry on a mocked mesh before weights are written, at which this process is pointed for good.
    The bundle appears whole or not at all; with `resume`, what is finished of it stays beside its place, and what an
    earlier compile has left there is used. Weights that the bundle `reuse` holds are not made again. Each program's
    text after each pass is written to the folder `print_ir`, which `force` may replace too. Programs are kept in the
    folder `kept_programs`, from which a compile with `reuse` takes them.

    Raise GeometryError before anything is traced, PlanError, CheckpointError, BundleError, KernelsError, and what the
    dry run raises: BackendError, and TtnnAlreadyImportedError in a process that has imported ttnn.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        ir_files = stack.enter_context(IRFiles(print_ir, force)) if print_ir else None
        watch = Watch(progress or Progress(), profile or Profile(), ir_files)
        target = stack.enter_context(opened_target(job))
        check_encoder(job, checkpoint.config)
        families = families_for(target.families, job.with_encoder)
        check_geometries(job.geometries, job.mesh, job.plans, families, checkpoint.config)
        writer = BundleWriter(output, force, resume=resume, reuse=Bundle.open(reuse) if reuse else None)
        try:
            kept = KeptPrograms(kept_programs, checkpoint.config, job) if kept_programs else None
            written = _write_bundle(writer, checkpoint, job, target, watch, kept)
        except BaseException:
            if writer.kept:
                watch.progress.phase(
                    "what was finished is kept beside the output: --resume uses it, a compile without removes it"
                )
            raise
    kernels = written.checked.kernels
    return Summary(
        written.bundle_id,
        written.programs,
        written.weight_bytes_per_device,
        weight_bytes_on_disk=sum(file.stat().st_size for file in (output / "weights").iterdir()),
        weight_bytes_reused=writer.reused_bytes,
        seconds=time.monotonic() - started,
        peak_rss=peak_memory(),
        kernels=KernelSummary(kernels.count, kernels.stand_in) if kernels else None,
        checkpoint=written.checkpoint,
    )


def check_encoder(job: Job, config: MochiConfig) -> None:
    """Raise CheckpointError where an encoder is wanted and the model has none."""
    if job.with_encoder and not config.vae.has_encoder:
        raise CheckpointError("the checkpoint has no video encoder; leave out with-encoder, or give one that has it")


@contextmanager
def opened_target(job: Job) -> Iterator[Target]:
    """Give the job's target, ready to compile for. Raise what ttnn_target raises."""
    if job.target == "torch":
        yield TorchTarget(job.weights_dtype)
        return
    with ttnn_target(job.mesh, job.weights_dtype, job.links_dtype, job.require_kernels, job.arch) as target:
        yield target


@dataclass(frozen=True)
class _Written:
    """A bundle that was written, and the bytes of its weights that a device holds."""

    bundle_id: str
    programs: list[ProgramSummary]
    weight_bytes_per_device: int
    checked: Checked
    checkpoint: dict[str, str]


def _write_bundle(
    writer: BundleWriter,
    checkpoint: Checkpoint | TunedCheckpoint,
    job: Job,
    target: Target,
    watch: Watch,
    kept: KeptPrograms | None,
) -> _Written:
    with writer:
        tokenizer = checkpoint.tokenizer_json()
        lowered = _add_kept_programs(writer, checkpoint, job.mesh, target, watch, kept)
        if lowered is None:
            compiled = _compile_programs(checkpoint, job, target, watch, kept)
            watch.begin("lower")
            lowered = add_programs(writer, target, compiled, watch.profile)
        watch.begin("dry run", "running the programs dry" if job.target == "ttnn" else None)
        checked = target.check_programs(writer, lowered.geometries, lowered.programs, job.mesh)
        watch.begin("write weights", "writing weights")
        on_device = target.add_weights(writer, checkpoint, job.mesh, watch.progress.weights)
        if isinstance(checkpoint, TunedCheckpoint):
            loras = record_of(target.formed_params(), checkpoint, job.mesh)
            if loras is not None:
                writer.add_loras(*loras)
        watch.begin("finish")
        writer.add_tokenizer(tokenizer)
        for name, notice in checkpoint.notices.items():
            writer.add_notice(name, notice)
        recorded = {"layout": checkpoint.layout, "identity": checkpoint.identity(), **checkpoint.origin}
        bundle_id = writer.finish(
            target=job.target,
            mesh=list(job.mesh),
            dtype=job.dtype,
            step_capacity=STEP_CAPACITY,
            text_length=checkpoint.config.text_length,
            model=_plain(checkpoint.config),
            checkpoint=recorded,
            versions=versions(PACKAGES),
            geometries=checked.geometries,
            created_by=f"mochi-compile {installed_version('mochi-aot')}",
            mesh_settings=checked.mesh_settings,
            kernels=checked.kernels,
            **_lowered_for(job),
        )
    return _Written(bundle_id, lowered.summaries, on_device, checked, recorded)


def _lowered_for(job: Job) -> dict[str, str]:
    """Return what a bundle records besides: dtypes other than the activations', and for chips the version of ttnn."""
    if job.target != "ttnn":
        return {"weights_dtype": job.weights_dtype} if job.weights_dtype in NARROW_DTYPES else {}
    return {"weights_dtype": job.weights_dtype, "links_dtype": job.links_dtype, "ttnn": installed_version("ttnn") or ""}


def _add_kept_programs(
    writer: BundleWriter,
    checkpoint: Checkpoint | TunedCheckpoint,
    mesh: Mesh,
    target: Target,
    watch: Watch,
    kept: KeptPrograms | None,
) -> Lowered | None:
    """Lower and write the programs that were kept, if all constants in them can be taken over; None otherwise."""
    if kept is None or writer.reuse is None or watch.ir_files is not None:
        return None
    found = kept.find(checkpoint)
    if found is None:
        return None
    watch.begin("lower", "using the programs of an earlier compile")
    lowered = add_programs(writer, target, found, watch.profile)
    return lowered if constants_were_made(writer, target, checkpoint, mesh) else None


def _compile_programs(
    checkpoint: Checkpoint | TunedCheckpoint, job: Job, target: Target, watch: Watch, kept: KeptPrograms | None
) -> dict[Geometry, dict[str, Compiled]]:
    source = NotedSource(checkpoint)
    traced, pipelines = {}, {g: Pipeline(str(g), watch.after_pass) for g in job.geometries}
    for geometry, pipeline in pipelines.items():
        watch.begin("trace", f"tracing {geometry}")
        traced[geometry] = build_programs(
            checkpoint.config, geometry, job.dtype, source, pipeline, job.with_encoder, job.text_dtype
        )
    watch.begin("choose plans", f"partitioning over {job.mesh[0]}x{job.mesh[1]}")
    plans = chosen_plans(list(traced.values()), job.mesh, job.plans, target).plans
    watch.begin("partition")
    compiled = {
        geometry: {
            role: compile_program(programs[role], job.mesh, plan, target, pipelines[geometry])
            for role, plan in plans.items()
        }
        for geometry, programs in traced.items()
    }
    if watch.ir_files is not None:
        watch.ir_files.publish()
    if kept is not None:
        kept.keep(compiled, source)
    return compiled


def chosen_plans(geometries: Sequence[Programs], mesh: Mesh, names: tuple[str, ...], target: Target) -> Choice:
    """Return the plans for programs without a mesh, by role and geometry, and those that lost. Raises PlanError."""

    candidates = Pipeline(verified=False)  # whoever takes the plan that is chosen compiles with it once more

    def estimate(program: Program, plan: Plan) -> Estimate:
        made = compile_program(program, mesh, plan, target, candidates)
        return target.estimate(made.program, plan.name, made.cost)

    return choose_plans(geometries, mesh, names, target.families, estimate, target.memory_bytes(mesh))


def compile_program(
    program: Program,
    mesh: Mesh,
    plan: Plan,
    target: Target | None = None,
    pipeline: Pipeline = SILENT,
) -> Compiled:
    """Return a program for one device as an SPMD program for the mesh, verified by the pipeline. Raise PlanError.

    `target` may change the program, first so that it fits a device, and then in what its products are made of.
    """
    if target is not None:
        program = pipeline.apply("fit", lambda p: target.fitted(p, mesh, plan), program)
    program = optimised(pipeline.apply("partition", lambda p: partition(p, mesh, plan), program), pipeline)
    narrowing = None if target is None else target.narrowing(program.name)
    if narrowing is not None:
        program = pipeline.apply("narrow", narrowing, program)
    if plan.gathered:
        program = pipeline.apply("gather_at_use", lambda p: gather_at_use(p, plan), program)
    return Compiled(program, plan.name, cost_of(program))


def optimised(program: Program, pipeline: Pipeline = SILENT) -> Program:
    """Return an SPMD program with what partitioning leaves to later passes done; verified after each."""
    program = pipeline.apply("simplify", simplify, program)
    program = pipeline.apply("merge_linears", merge_linears, program)
    return pipeline.apply("simplify", simplify, program)


def _plain(value: object) -> dict[str, schema.Plain]:
    """Return a configuration as msgpack-able values."""

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
