"""mochi-run: a video, or a sweep of videos, from a bundle."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.checks import CheckedJob, check_job, check_outputs, check_tokenizer, with_cuts
from mochi_aot.runtime.generate import generate, roles
from mochi_aot.runtime.interrupt import InterruptFlag
from mochi_aot.runtime.job import DEFAULT_GUIDANCE_SCALE, Job
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.paths import check_writable, replacing
from mochi_aot.runtime.pipeline import Pipeline, read_ahead
from mochi_aot.runtime.record import write_record
from mochi_aot.runtime.schedule import DEFAULT_STEPS, DEFAULT_THRESHOLD_NOISE
from mochi_aot.runtime.sweep import read_sweep
from mochi_aot.runtime.targets import DEVICES, choose_device, open_backend
from mochi_aot.runtime.video import DEFAULT_FPS
from mochi_aot.runtime.weight_reader import WeightReader
from mochi_aot.tools.commands.cli import INTERRUPTED, MochiCommand
from mochi_aot.tools.commands.ledger_report import ledger_report
from mochi_aot.tools.commands.read_limit import read_limit

SHOWN_CUT = 200  # characters of what is cut off a prompt

type LabelledJob = tuple[str, Job]


class Console:
    """Shows on stderr how a job gets on: a line a phase, and in a terminal a bar over the steps."""

    def __init__(self) -> None:
        self.interrupt: InterruptFlag | None = None
        self.jobs, self.done = 1, 0
        self._open = ExitStack()
        self._advance: Callable[[int], None] | None = None

    def phase(self, name: str, steps: int) -> None:
        self.close()
        label = name if self.jobs == 1 else f"job {self.done + 1}/{self.jobs}: {name}"
        if steps == 0:
            click.echo(label, err=True)
            return
        bar = click.progressbar(length=steps, label=label, show_pos=True, file=sys.stderr)
        self._advance = self._open.enter_context(bar).update

    def step(self, done: int, steps: int) -> None:
        if self._advance is not None:
            self._advance(1)
        if done < steps:
            self.check()

    def check(self) -> None:
        if self.interrupt is not None:
            self.interrupt.check()

    def close(self) -> None:
        """Ends the line of the bar."""
        self._open.close()
        self._advance = None

    def announce_stop(self) -> None:
        """Runs in a signal handler, where buffered streams must not be touched."""
        if sys.stderr.isatty():
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")


@click.command(cls=MochiCommand)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="TEXT", help="What the video shows.")
@click.option("--negative-prompt", metavar="TEXT", help="What it should not show. Default: empty.")
@click.option("--seed", type=int, help="Seed of the starting noise, the same on every target. Default: a random one.")
@click.option("--steps", type=int, default=DEFAULT_STEPS, show_default=True, help="Denoising steps.")
@click.option(
    "--guidance-scale",
    type=float,
    default=DEFAULT_GUIDANCE_SCALE,
    show_default=True,
    help="How strongly the prompt steers, away from the negative prompt; at 1 the negative prompt has no effect.",
)
@click.option(
    "--threshold-noise",
    type=float,
    default=DEFAULT_THRESHOLD_NOISE,
    show_default=True,
    help="Share of the noise, between 0 and 1, that the linear steps remove; the others remove the rest.",
)
@click.option("--linear-steps", type=int, help="Steps of the schedule's linear part. Default: half of the steps.")
@click.option("--fps", type=float, default=DEFAULT_FPS, show_default=True, help="Frames per second of the mp4.")
@click.option("--geometry", metavar="HxWxF", help="Height, width and frames. Default: the bundle's first.")
@click.option("-o", "--output", metavar="FILE.mp4", help="The video; a record of the run goes beside it, as FILE.json.")
@click.option(
    "--device",
    type=click.Choice([device for devices in DEVICES.values() for device in devices]),
    help="What the bundle runs on. Default: cpu for the target torch, chips for ttnn. mock is a mesh without hardware, "
    "on which everything happens but the computing: the video is made of zeros.",
)
@click.option(
    "--prompt-embeds",
    metavar="FILE",
    help="Encoded prompts instead of --prompt: safetensors with prompt_embeds, prompt_attention_mask and, unless the "
    "negative prompt is to be encoded here, negative_prompt_embeds and negative_prompt_attention_mask.",
)
@click.option("--latents", metavar="FILE", help="Starting noise instead of a seed: safetensors with latents.")
@click.option("--save-latents", metavar="FILE", help="Write the denoised latents to this safetensors file.")
@click.option("--save-prompt-embeds", metavar="FILE", help="Write the encoded prompts, for use with --prompt-embeds.")
@click.option("--no-decode", is_flag=True, help="Stop at the latents; make no video.")
@click.option(
    "--sweep",
    metavar="FILE.jsonl",
    type=click.Path(path_type=Path),
    help="Many jobs: each line is a JSON object of options by their names here, without dashes in front, such as "
    '{"prompt": "a fox", "seed": 7, "output": "fox.mp4"}. A line\'s values override the command line\'s. All lines '
    "are checked before the first job runs.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--check-values",
    is_flag=True,
    help="Look at what every instruction makes, and name the first that made a number which is not finite. Takes "
    "long. Without it the message names the program.",
)
@click.option(
    "--profile",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="Write what took how long, from the start of the process on: a Chrome trace, for chrome://tracing or "
    "Perfetto, in which the key `ledger` has the numbers that are shown at the end.",
)
def main(
    bundle: Path,
    device: str | None,
    sweep: Path | None,
    force: bool,
    check_values: bool,
    profile: Path | None,
    **options: Any,
) -> None:
    """Make a video from the compiled BUNDLE.

    Files appear whole or not at all. Ctrl-C or SIGTERM stops after the current step, a second one at once.
    """
    console, ledger = Console(), Ledger()
    ledger.add("imports", 0)
    try:
        with InterruptFlag(console.announce_stop) as console.interrupt:
            if profile is not None:
                check_writable(profile, force)
            _run(bundle, device, _read_jobs(sweep, Job(**options)), force, check_values, profile, console, ledger)
            click.echo(ledger_report(ledger.numbers()), err=True)
            if profile is not None:
                _write_profile(profile, ledger)
    except KeyboardInterrupt:  # Interrupted is one too
        console.close()
        click.echo(f"interrupted: {console.done} of {console.jobs} jobs done, no file left unfinished", err=True)
        sys.exit(INTERRUPTED if console.interrupt is None else 128 + console.interrupt.number)


def _read_jobs(sweep: Path | None, base: Job) -> list[LabelledJob]:
    if sweep is None:
        return [("", base)]
    return [(f"{sweep}, line {number}: ", job) for number, job in read_sweep(sweep, base)]


def _run(
    path: Path,
    device: str | None,
    jobs: list[LabelledJob],
    force: bool,
    check_values: bool,
    profile: Path | None,
    console: Console,
    ledger: Ledger,
) -> None:
    console.jobs = len(jobs)
    with ledger.span("open the bundle"):
        bundle = Bundle.open(path)
        device = choose_device(bundle.manifest.target, device)
    with ledger.span("check the jobs"):
        taken = {profile.resolve()} if profile is not None else set()
        checked = [(label, _check(label, job, bundle, taken, force)) for label, job in jobs]
        tokenizer = check_tokenizer((item.job for _, item in checked), bundle)
        checked = [(label, with_cuts(item, tokenizer)) for label, item in checked]
    _tell_cuts(checked, bundle.manifest.text_length)
    reader = WeightReader(bundle, ledger)
    first = checked[0][1]
    read_ahead(reader, bundle, roles(first), first.geometry)  # importing the target's library may take seconds
    with ledger.span("open the device"):
        backend = open_backend(bundle, device)
    pipeline = Pipeline(bundle, backend, reader, ledger, check_values)
    for label, item in checked:
        start = time.perf_counter()
        with _labelled(label):
            timings = generate(pipeline, item, console)
        console.close()
        timings["total"] = time.perf_counter() - start
        write_record(item, bundle, device, timings)
        console.done += 1
        click.echo(_summary(item, timings["total"]))
    ledger.read_limit = read_limit(bundle, ledger.bytes_from_disk())
    use = backend.kernel_use()
    if use is not None:
        click.echo(f"kernels: {use.found} found, {use.built} built", err=True)


def _tell_cuts(checked: list[tuple[str, CheckedJob]], length: int) -> None:
    for label, item in checked:
        for option, text in item.cuts.items():
            shown = text if len(text) <= SHOWN_CUT else f"{text[:SHOWN_CUT]}... ({len(text)} characters)"
            problem = f"the {option} has more than {length} tokens; its end has no effect: {shown!r}"
            click.echo(f"warning: {label}{problem}", err=True)


def _write_profile(path: Path, ledger: Ledger) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(ledger.profile()) + "\n", encoding="utf-8")


def _check(label: str, job: Job, bundle: Bundle, taken: set[Path], force: bool) -> CheckedJob:
    with _labelled(label):
        checked = check_job(job, bundle)
        check_outputs(checked.job, taken, force)
    return checked


@contextmanager
def _labelled(label: str) -> Iterator[None]:
    """Lets errors begin with the line of a sweep that they come from."""
    try:
        yield
    except MochiError as error:
        raise type(error)(f"{label}{error}") from error  # of the same kind: its exit code tells the kind


def _summary(checked: CheckedJob, seconds: float) -> str:
    job, geometry = checked.job, checked.geometry
    noise = f"seed {job.seed}" if job.seed is not None else f"noise from {job.latents}"
    size = f"{geometry.width}x{geometry.height}, {geometry.frames} frames"
    return f"{job.output or job.save_latents}: {size}, {job.steps} steps, {noise}, {seconds:.1f} s"


if __name__ == "__main__":
    main()
