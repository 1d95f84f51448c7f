"""One checked job from start to end: phases in order, files written, time taken."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from mochi_aot.runtime.checks import CheckedJob
from mochi_aot.runtime.finished import finishing
from mochi_aot.runtime.input_video import read_video
from mochi_aot.runtime.job import Job, denoises, first_step, record_path, steps_of
from mochi_aot.runtime.kept import keeping
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.record import write_record
from mochi_aot.runtime.sampling import Given, condition, embeddings, roles, starting_latents
from mochi_aot.runtime.tensor_files import load_latents_file, load_prompt_file, save_latents_file, save_prompt_file
from mochi_aot.runtime.video import write_video

# Makes a record of the seconds of each phase.
type Describe = Callable[[dict[str, float]], Mapping[str, object]]


class Watcher(Protocol):
    """Follows a job. `phase`, `step` and `check` may raise, for instance Interrupted, to stop it there."""

    def phase(self, name: str, steps: int) -> None:
        """Show that a phase begins; `steps` calls of `step` will follow in it."""

    def step(self, done: int, steps: int) -> None:
        """Show that a denoising step has been done."""

    def check(self) -> None:
        """Stop the job here if it is to stop; it can at this moment."""

    def warn(self, text: str) -> None:
        """Show the user a line that matters."""


class Clock:
    """Takes the time of phases, and tells a watcher of them if there is one."""

    def __init__(self, watcher: Watcher | None, ledger: Ledger) -> None:
        self.seconds: dict[str, float] = {}
        self._watcher, self._ledger = watcher, ledger

    @contextmanager
    def phase(self, name: str, steps: int = 0) -> Iterator[None]:
        """Time the block, unless it raises."""
        if self._watcher is not None:
            self._watcher.check()
            self._watcher.phase(name, steps)
        start = time.perf_counter()
        with self._ledger.span(name):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def job_roles(pipeline: Pipeline | None, checked: CheckedJob) -> list[str]:
    """Return the programs that a job runs, in this order; `pipeline` may know embeddings from before."""
    if checked.denoised is not None:
        return ["decode"]
    job, file = checked.job, checked.prompt_file

    def there(given: bool, prompt: str | None) -> bool:
        return given or (pipeline is not None and pipeline.remembers(prompt or ""))

    positive = there(file is not None, job.prompt)
    negative = there(file is not None and file.negative is not None, job.negative_prompt)
    return roles(positive, negative, job.output is not None, job.input_video is not None, denoises(job))


def generate(
    pipeline: Pipeline,
    checked: CheckedJob,
    watcher: Watcher,
    describe: Callable[[dict[str, float]], Mapping[str, object]],
) -> None:
    """Run the job and write its files; the record is what `describe` makes of the seconds of each phase.

    Files appear whole or not at all, the video and its record together; what was written before a stop stays. Denoised
    latents are kept beside the video until it is whole.
    """
    clock, job = Clock(watcher, pipeline.ledger), checked.job
    pipeline.read_ahead(job_roles(pipeline, checked), checked.geometry)
    if checked.denoised is not None:
        latents = load_latents_file(checked.denoised.path, checked.denoised.entry)
    else:
        latents = _denoised(pipeline, checked, watcher, clock)
    if job.output is None:
        write_record(job, describe(clock.seconds))
        return
    with keeping(latents, job, pipeline.bundle, watcher.warn, saved=checked.denoised is not None):
        with clock.phase("decode"):
            frames = pipeline.decode(latents, checked.geometry)
        with finishing(Path(job.output), record_path(job), checked.overwrite) as made:
            with clock.phase("write the video"):
                write_video(made.video, frames, job.fps, watcher.check)
            made.record = describe(clock.seconds)


def _denoised(pipeline: Pipeline, checked: CheckedJob, watcher: Watcher, clock: Clock) -> np.ndarray:
    job, geometry = checked.job, checked.geometry
    given, video = _given(checked), _encoded(pipeline, checked, clock)
    if video is not None and not denoises(job):
        return _saved(job, video)
    with clock.phase("encode the prompt"):
        positive, negative = embeddings(pipeline, job, given)
        if job.save_prompt_embeds is not None:
            save_prompt_file(Path(job.save_prompt_embeds), positive, negative)
    with clock.phase("prepare the steps"):
        conditioning = condition(pipeline, job, (positive, negative), geometry)
    with clock.phase("denoise", steps_of(job) - first_step(job)):
        start = starting_latents(pipeline, job, given, geometry, video)
        latents = pipeline.denoise(start, conditioning, watcher.step)
        del conditioning  # its tables are large, and decoding needs the memory
        return _saved(job, latents)


def _saved(job: Job, latents: np.ndarray) -> np.ndarray:
    if job.save_latents is not None:
        save_latents_file(Path(job.save_latents), latents)
    return latents


def _encoded(pipeline: Pipeline, checked: CheckedJob, clock: Clock) -> np.ndarray | None:
    """Return the latents of the job's input video, if it has one."""
    if checked.job.input_video is None:
        return None
    with clock.phase("read the video"):
        frames = read_video(Path(checked.job.input_video), checked.geometry)
    with clock.phase("encode the video"):
        return pipeline.encode(frames, checked.geometry)


def _given(checked: CheckedJob) -> Given:
    positive, negative = None, None
    if checked.prompt_file is not None:
        positive, negative = load_prompt_file(checked.prompt_file)
    latents = None
    if checked.job.latents is not None and checked.latents_entry is not None:
        latents = load_latents_file(Path(checked.job.latents), checked.latents_entry)
    return Given(positive, negative, latents)
