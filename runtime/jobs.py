"""Runs a list of jobs on one bundle: all are checked before the first one runs, and each leaves a record."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mochi_aot.artifacts.errors import MochiError, one_line
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.backend import KernelUse, Planner
from mochi_aot.runtime.checks import CheckedJob, check_job, check_outputs, check_tokenizer, with_cuts
from mochi_aot.runtime.finished import held_outputs
from mochi_aot.runtime.generate import Watcher, generate, job_roles
from mochi_aot.runtime.input_video import file_hash
from mochi_aot.runtime.job import Job, check_options, outputs, record_path
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.opening import open_bundle
from mochi_aot.runtime.pipeline import Pipeline, read_ahead
from mochi_aot.runtime.record import make_record
from mochi_aot.runtime.sampling import starting_sigma
from mochi_aot.runtime.targets import choose_device, close_backend, open_backend
from mochi_aot.runtime.weight_reader import WeightReader
from mochi_aot.runtime.world import World

SHOWN_CUT = 200  # characters of what is cut off a prompt

# What messages about the job begin with, such as "jobs.jsonl, line 3: "; empty for a job that stands alone.
type LabelledJob = tuple[str, Job]


class JobsWatcher(Watcher, Protocol):
    """Follows a list of jobs."""

    def begin(self, number: int, jobs: int) -> None:
        """Show that the job of this number, from 1, begins."""

    def finished(self, checked: CheckedJob, device: str, seconds: float) -> None:
        """Show that all files of a job are written."""

    def skipped(self, job: Job) -> None:
        """Show that all files of a job were there."""

    def failed(self, failure: "Failure") -> None:
        """Show that a job failed, and others follow."""


@dataclass(frozen=True)
class JobsOptions:
    """How a list of jobs is run.

    `force` replaces files that exist. With `keep_going` jobs follow one that failed. With `skip_existing` jobs whose
    files are all there, with the record, are not run; denoised latents that a stopped run kept are decoded. The bundle
    must be signed by a key in the file `require_signature`, and have the id `expect_id`, where these are given; it runs
    with the `delta`, if there is one. With `check` weights are compared with their hashes before they are used. With
    `world`, of which this is rank 0, the mesh's devices are processes.
    """

    device: str | None = None
    force: bool = False
    keep_going: bool = False
    skip_existing: bool = False
    check_values: bool = False
    require_signature: Path | None = None
    expect_id: str | None = None
    check: bool = True
    delta: Path | None = None
    world: World | None = None


@dataclass(frozen=True)
class Failure:
    """A job that failed while others went on; `message` begins with the job's label."""

    message: str
    error: MochiError | OSError


@dataclass
class Outcome:
    """What became of a list of jobs; `kernels` is None where the backend has none, or nothing ran."""

    bundle: Bundle
    done: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    kernels: KernelUse | None = None


def run_jobs(
    path: Path,
    jobs: Sequence[LabelledJob],
    options: JobsOptions,
    watcher: JobsWatcher,
    ledger: Ledger | None = None,
    taken: Sequence[Path] = (),
) -> Outcome:
    """Run jobs on the bundle at `path`. Files in `taken` are somebody else's, and not written.

    Raise the first job's MochiError or OSError, beginning with the job's label, unless `keep_going` is set: then they
    are in the outcome. Faults of the bundle and of the device are raised in any case.
    """
    ledger = ledger or Ledger()
    with ledger.span("open the bundle"):
        bundle = open_bundle(path, options.delta, options.require_signature, options.expect_id)
        device = choose_device(bundle.manifest.target, options.device)
    outcome = Outcome(bundle)
    with ledger.span("check the jobs"):
        checked = _check_all(jobs, options, watcher, outcome, {item.resolve() for item in taken})
    if checked:
        _run_checked(checked, device, options, watcher, ledger, outcome)
    return outcome


def _check_all(
    jobs: Sequence[LabelledJob], options: JobsOptions, watcher: JobsWatcher, outcome: Outcome, taken: set[Path]
) -> list[tuple[str, CheckedJob]]:
    """Return the jobs that are to be run."""
    bundle, checked = outcome.bundle, []
    for label, job in jobs:
        with _failing(label, options, outcome, watcher):
            check_options(job)
            if options.skip_existing and all(file.exists() for file in outputs(job)):
                outcome.skipped += 1
                watcher.skipped(job)
                continue
            item = check_job(job, bundle, go_on=options.skip_existing)
            go_on = item.denoised is not None
            # Kept latents say that a run of this job was stopped: a video without a record is what it left.
            stopped = go_on and options.skip_existing and not record_path(item.job).exists()
            item = replace(item, overwrite=options.force or stopped)
            check_outputs(item.job, taken, item.overwrite, go_on, bundle.path)
            checked.append((label, item))
    tokenizer = check_tokenizer((item.job for _, item in checked), bundle)
    checked = [(label, with_cuts(item, tokenizer)) for label, item in checked]
    _tell_cuts(checked, bundle.manifest.text_length, watcher)
    return checked


def _run_checked(
    checked: list[tuple[str, CheckedJob]],
    device: str,
    options: JobsOptions,
    watcher: JobsWatcher,
    ledger: Ledger,
    outcome: Outcome,
) -> None:
    bundle, (label, first) = outcome.bundle, checked[0]
    if options.world is not None:
        bundle = bundle.for_device(options.world.rank)
    with ExitStack() as closing:
        early = closing.enter_context(ExitStack())
        if not options.keep_going:  # before a device is opened for nothing
            with _failing(label, options, outcome, watcher):
                early.enter_context(_held(first))
        reader = WeightReader(bundle, ledger, check=options.check)
        closing.callback(reader.close)
        read_ahead(reader, bundle, job_roles(None, first), first.geometry)  # the target's library may take seconds
        watcher.phase("open the device", 0)
        with ledger.span("open the device"):
            backend = open_backend(bundle, device, options.world)
        closing.callback(close_backend, backend)
        if isinstance(backend, Planner):
            read_ahead(backend, bundle, job_roles(None, first), first.geometry)
        pipeline = Pipeline(bundle, backend, reader, ledger, options.check_values)
        for number, (label, item) in enumerate(checked, start=1):
            watcher.begin(number, len(checked))
            held = early if item is first and not options.keep_going else _held(item)
            with _failing(label, options, outcome, watcher), held:
                seconds = _run_one(pipeline, item, device, watcher)
                outcome.done += 1
                watcher.finished(item, device, seconds)
        outcome.kernels = backend.kernel_use()


def _held(item: CheckedJob) -> AbstractContextManager[None]:
    return held_outputs(item.job, item.overwrite)


def _run_one(pipeline: Pipeline, item: CheckedJob, device: str, watcher: JobsWatcher) -> float:
    """Return the seconds that a job took."""
    start = time.perf_counter()
    more = {} if item.denoised is None else {"denoised": dict(item.denoised.made_by)}
    if item.denoised is None and item.job.input_video is not None:
        more["input_video"] = {"sha256": file_hash(Path(item.job.input_video)), "sigma": starting_sigma(item.job)}

    def describe(seconds: dict[str, float]) -> dict[str, object]:
        timings = {**seconds, "total": time.perf_counter() - start}
        return make_record(item.job, item.cuts, pipeline.bundle, device, timings, **more)

    generate(pipeline, item, watcher, describe)
    return time.perf_counter() - start


@contextmanager
def _failing(label: str, options: JobsOptions, outcome: Outcome, watcher: JobsWatcher) -> Iterator[None]:
    """Let errors begin with the label of the job that they come from; with `keep_going`, note them and go on."""
    try:
        yield
    except (MochiError, OSError) as error:
        message = f"{label}{one_line(error)}"
        if isinstance(error, MochiError):
            error.args = (message,)
        if not options.keep_going:
            raise
        outcome.failed.append(Failure(message, error))
        watcher.failed(outcome.failed[-1])


def _tell_cuts(checked: list[tuple[str, CheckedJob]], length: int, watcher: JobsWatcher) -> None:
    for label, item in checked:
        for option, text in item.cuts.items():
            watcher.warn(f"{label}{cut_warning(option, text, length)}")


def cut_warning(option: str, text: str, length: int) -> str:
    """Return the line that tells of the end of a prompt which has no effect."""
    shown = text if len(text) <= SHOWN_CUT else f"{text[:SHOWN_CUT]}... ({len(text)} characters)"
    return f"the {option} has more than {length} tokens; its end has no effect: {shown!r}"
