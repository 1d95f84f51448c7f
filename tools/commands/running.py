"""What `mochi-run` does behind its options: reads them, has the jobs run, and shows how they get on."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import exit_code
from mochi_aot.runtime.checks import CheckedJob
from mochi_aot.runtime.defaults import MOCK, SIMULATOR
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.interrupt import InterruptFlag
from mochi_aot.runtime.job import Job, denoises, first_step, outputs
from mochi_aot.runtime.jobs import Failure, JobsOptions, LabelledJob, Outcome, run_jobs
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.options import same_names, with_options
from mochi_aot.runtime.paths import check_writable
from mochi_aot.runtime.sampling import starting_sigma
from mochi_aot.runtime.several import read_prompts, several_jobs
from mochi_aot.runtime.sweep import read_sweep
from mochi_aot.runtime.targets import dismiss
from mochi_aot.runtime.world import World
from mochi_aot.tools.commands.cli import keep_stdout_for_results, print_json, print_text
from mochi_aot.tools.commands.console import LOGGER, Console, say_interrupted
from mochi_aot.tools.commands.ledger_report import ledger_report
from mochi_aot.tools.commands.read_limit import read_limit


@dataclass(frozen=True)
class Settings:
    """The options that are about the whole run, and not about one video."""

    device: str | None
    sweep: Path | None
    force: bool
    keep_going: bool
    skip_existing: bool
    check_values: bool
    require_signature: Path | None
    expect_id: str | None
    check: bool
    profile: Path | None
    as_json: bool
    delta: Path | None = None
    world: World | None = None
    prompt_file: Path | None = None
    num_videos: int | None = None  # of each prompt


class JobsConsole:
    """Shows on a console how jobs get on; what is done goes to stdout, a line a job."""

    def __init__(self, console: Console, as_json: bool) -> None:
        self.interrupt: InterruptFlag | None = None
        self.jobs, self.done, self.skips = 1, 0, 0
        self.results: list[dict[str, Any]] = []
        self._console, self._as_json = console, as_json
        self._prefix = ""

    def begin(self, number: int, jobs: int) -> None:
        self.jobs = jobs
        self._prefix = "" if jobs == 1 else f"job {number}/{jobs}: "

    def phase(self, name: str, steps: int) -> None:
        self._console.phase(self._prefix + name)
        if steps:
            self._console.update(0, steps)

    def step(self, done: int, steps: int) -> None:
        self._console.update(done, steps)
        if done < steps:
            self.check()

    def check(self) -> None:
        if self.interrupt is not None:
            self.interrupt.check()

    def warn(self, text: str) -> None:
        LOGGER.warning("%s", text)

    def finished(self, checked: CheckedJob, device: str, seconds: float) -> None:
        self.done += 1
        self.results.append({"files": [str(path) for path in outputs(checked.job)], "seconds": round(seconds, 3)})
        if not self._as_json:
            print_text(_summary(checked, device, seconds))

    def skipped(self, job: Job) -> None:
        self.skips += 1
        LOGGER.info("%s", f"{job.output or job.save_latents} is there, with its record: skipped")

    def failed(self, failure: Failure) -> None:
        LOGGER.warning("%s", f"going on after a failure: {failure.message}")

    def announce_stop(self) -> None:
        """Run in a signal handler, where buffered streams must not be touched."""
        if sys.stderr.isatty():
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")


def run_command(bundle: Path, options: Mapping[str, Any], settings: Settings, console: Console) -> None:
    """Run the jobs that the options ask for, and exit with another code than 0 if it comes to that."""
    if settings.device == SIMULATOR:
        keep_stdout_for_results()
    progress, ledger = JobsConsole(console, settings.as_json), Ledger()
    ledger.add("imports", 0)
    try:
        with InterruptFlag(progress.announce_stop) as progress.interrupt:
            outcome = _run(bundle, options, settings, progress, ledger)
            if settings.world is not None:
                dismiss(settings.world)  # who starts the processes ends the others of one that fails, not of this
    except KeyboardInterrupt:  # Interrupted is one too
        console.close()
        code = 128 + progress.interrupt.number if progress.interrupt is not None else 130
        say_interrupted(f"interrupted: {progress.done} of {progress.jobs} jobs done, no file left unfinished", code)
        sys.exit(code)
    console.close()
    _report(outcome, ledger)
    if settings.as_json:
        failed = [{"message": one.message, "exit_code": int(exit_code(one.error))} for one in outcome.failed]
        print_json({"done": progress.results, "skipped": outcome.skipped, "failed": failed, **ledger.numbers()})
    if outcome.failed:
        sys.exit(int(exit_code(outcome.failed[0].error)))


def _run(
    bundle: Path, options: Mapping[str, Any], settings: Settings, progress: JobsConsole, ledger: Ledger
) -> Outcome:
    profile = settings.profile
    if profile is not None:
        check_writable(profile, settings.force)
    jobs = _read_jobs(settings, _job(options))
    how = JobsOptions(
        settings.device,
        settings.force,
        settings.keep_going,
        settings.skip_existing,
        settings.check_values,
        settings.require_signature,
        settings.expect_id,
        settings.check,
        settings.delta,
        settings.world,
    )
    outcome = run_jobs(bundle, jobs, how, progress, ledger, [] if profile is None else [profile])
    if outcome.done:
        ledger.read_limit = read_limit(outcome.bundle, ledger.bytes_from_disk())
    if profile is not None:
        _write_profile(profile, ledger)
    return outcome


def _job(options: Mapping[str, Any]) -> Job:
    """Return the job that the command line asks for, by any of the options' names."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return with_options(Job(), same_names(given))
    except OptionError as error:
        raise click.UsageError(str(error)) from None


def _read_jobs(settings: Settings, base: Job) -> list[LabelledJob]:
    sweep = settings.sweep
    if settings.prompt_file is not None or settings.num_videos is not None:
        return _read_several(settings, base)
    if sweep is None:
        return [("", base)]
    return [(f"{sweep}, line {number}: ", job) for number, job in read_sweep(sweep, base)]


def _read_several(settings: Settings, base: Job) -> list[LabelledJob]:
    """Return the videos of a prompt, or of each prompt of a file. Raise UsageError for two sources of jobs."""
    file, count = settings.prompt_file, settings.num_videos or 1
    if settings.sweep is not None:
        raise click.UsageError("--sweep has a job on each line; leave out --prompt-file and --num-videos-per-prompt")
    if settings.num_videos is not None and settings.num_videos < 1:
        raise click.UsageError(f"--num-videos-per-prompt is {settings.num_videos}, expected 1 or more")
    if file is not None and (base.prompt is not None or base.prompt_embeds is not None):
        raise click.UsageError("--prompt-file has the prompts; leave out --prompt and --prompt-embeds")
    prompts = [(0, base.prompt)] if file is None else read_prompts(file)
    labels = ["" if file is None else f"{file}, line {number}: " for number, _ in prompts for _ in range(count)]
    return list(zip(labels, several_jobs(base, [prompt for _, prompt in prompts], count), strict=True))


def _report(outcome: Outcome, ledger: Ledger) -> None:
    """Say what a run took, and which jobs failed."""
    if outcome.kernels is not None:
        LOGGER.info("kernels: %d found, %d built", outcome.kernels.found, outcome.kernels.built)
    numbers = ledger.numbers()
    LOGGER.info("%s", ledger_report(numbers), extra={"numbers": {"ledger": numbers}})
    for failure in outcome.failed:
        LOGGER.error("%s", f"failed: {failure.message}")


def _write_profile(path: Path, ledger: Ledger) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(ledger.profile()) + "\n", encoding="utf-8")


def _beginning(job: Job) -> list[str]:
    """Return how a job's latents came about."""
    assert job.steps is not None, "a resolved job has steps"
    noise = f"seed {job.seed}" if job.seed is not None else f"noise from {job.latents}"
    if job.input_video is None:
        return [f"{job.steps} steps", noise]
    if not denoises(job):
        return [f"encoded from {job.input_video}"]
    steps = f"the last {job.steps - first_step(job)} of {job.steps} steps"
    return [f"from {job.input_video} with {starting_sigma(job):.2g} of noise", steps, noise]


def _summary(checked: CheckedJob, device: str, seconds: float) -> str:
    job, geometry = checked.job, checked.geometry
    what = [f"{geometry.width}x{geometry.height}", f"{geometry.frames} frames"]
    if job.decode_latents is not None:
        what.append(f"decoded from {job.decode_latents}")
    else:
        what += _beginning(job)
    if device == MOCK:
        what.append("on a mock mesh, which computes nothing: all of it is zeros")
    return f"{job.output or job.save_latents}: {', '.join(what)}, {seconds:.1f} s"
