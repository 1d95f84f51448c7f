"""One checked job from start to end: phases in order, files written, time taken."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from mochi_aot.runtime.checks import CheckedJob
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import (
    Embedding,
    load_latents_file,
    load_prompt_file,
    save_latents_file,
    save_prompt_file,
)
from mochi_aot.runtime.video import write_video


class Watcher(Protocol):
    """Follows a job. Each method may raise, for instance Interrupted, to stop it there."""

    def phase(self, name: str, steps: int) -> None:
        """A phase begins; `steps` calls of `step` will follow in it."""

    def step(self, done: int, steps: int) -> None:
        """A denoising step has been done."""

    def check(self) -> None:
        """A moment at which the job can stop."""


def roles(checked: CheckedJob, remembers: Callable[[str], bool] = lambda prompt: False) -> list[str]:
    """The programs that a job runs, in this order; `remembers` says which prompts need no text encoder."""
    job, file = checked.job, checked.prompt_file
    prompts = [] if file is not None else [job.prompt or ""]
    if file is None or file.negative is None:
        prompts.append(job.negative_prompt or "")
    encoder = [] if all(map(remembers, prompts)) else ["encode_text"]
    decoder = [] if job.output is None else ["decode"]
    return [*encoder, "prepare_prompt", "prepare_steps", "denoise", *decoder]


def generate(pipeline: Pipeline, checked: CheckedJob, watcher: Watcher) -> dict[str, float]:
    """Runs the job, writes its files except the record, and returns the seconds of each phase.

    Files appear whole or not at all; what was written before a stop stays.
    """
    clock = _Clock(watcher, pipeline.ledger)
    job = checked.job
    pipeline.read_ahead(roles(checked, pipeline.remembers), checked.geometry)
    with clock.phase("encode the prompt"):
        positive, negative = _embeddings(pipeline, checked)
        if job.save_prompt_embeds is not None:
            save_prompt_file(Path(job.save_prompt_embeds), positive, negative)
    with clock.phase("prepare the steps"):
        sigmas = linear_quadratic_sigmas(job.steps, job.threshold_noise, job.linear_steps)
        conditioning = pipeline.condition(positive, negative, sigmas, job.guidance_scale, checked.geometry)
    with clock.phase("denoise", job.steps):
        latents = pipeline.denoise(_start(pipeline, checked), conditioning, watcher.step)
        del conditioning  # its tables are large, and decoding needs the memory
        if job.save_latents is not None:
            save_latents_file(Path(job.save_latents), latents)
    if job.output is not None:
        with clock.phase("decode"):
            frames = pipeline.decode(latents, checked.geometry)
        with clock.phase("write the video"):
            write_video(Path(job.output), frames, job.fps, watcher.check)
    return clock.seconds


class _Clock:
    def __init__(self, watcher: Watcher, ledger: Ledger) -> None:
        self.seconds: dict[str, float] = {}
        self._watcher, self._ledger = watcher, ledger

    @contextmanager
    def phase(self, name: str, steps: int = 0) -> Iterator[None]:
        self._watcher.check()
        self._watcher.phase(name, steps)
        start = time.perf_counter()
        with self._ledger.span(name):
            yield
        self.seconds[name] = time.perf_counter() - start


def _embeddings(pipeline: Pipeline, checked: CheckedJob) -> tuple[Embedding, Embedding]:
    job = checked.job
    positive, negative = None, None
    if checked.prompt_file is not None:
        positive, negative = load_prompt_file(checked.prompt_file)
    if positive is None:
        assert job.prompt is not None, "a checked job has a prompt or a prompt file"
        positive = pipeline.encode_prompt(job.prompt)
    if negative is None:
        negative = pipeline.encode_prompt(job.negative_prompt or "")
    return positive, negative


def _start(pipeline: Pipeline, checked: CheckedJob) -> np.ndarray:
    job = checked.job
    if job.latents is not None and checked.latents_entry is not None:
        return load_latents_file(Path(job.latents), checked.latents_entry)
    assert job.seed is not None, "a checked job has a seed or a latents file"
    return seeded_latents(job.seed, pipeline.latent_shape(checked.geometry))
