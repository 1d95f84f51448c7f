"""Makes the videos of one call: all prompts are encoded first, then all latents denoised, then all decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.checks import prompt_cuts
from mochi_aot.runtime.generate import Clock
from mochi_aot.runtime.job import Job, first_step, steps_of
from mochi_aot.runtime.pipeline import Conditioning, Pipeline
from mochi_aot.runtime.record import make_record
from mochi_aot.runtime.requests import Request
from mochi_aot.runtime.result import Video, as_images
from mochi_aot.runtime.sampling import condition, embeddings, starting_latents
from mochi_aot.runtime.steering import Steering

# Returns what is called after each step of a video.
MakeSteering = Callable[[Job, Conditioning], Steering]


@dataclass(frozen=True)
class Denoised:
    """Latents float32 [1, 12, T, H/8, W/8], the job that made them, and the rest of its record."""

    latents: np.ndarray
    job: Job
    clock: Clock
    notes: dict[str, Any]


def denoise_all(
    pipeline: Pipeline,
    groups: Sequence[Sequence[Request]],
    geometry: Geometry,
    steering: MakeSteering | None,
    latents: list[np.ndarray],
) -> list[Denoised]:
    """Denoise the videos of each prompt, whose steps are prepared once; append each one's latents to `latents`.

    All begin with the same video, if with any.
    """
    encoded, before = [], Clock(None, pipeline.ledger)
    video = _encoded(pipeline, groups[0][0], geometry, before)
    for group in groups:
        clock = Clock(None, pipeline.ledger)
        clock.seconds.update(before.seconds)
        with clock.phase("encode the prompt"):
            encoded.append((clock, embeddings(pipeline, group[0].job, group[0].given)))
    made = []
    for group, (shared, prompts) in zip(groups, encoded, strict=True):
        with shared.phase("prepare the steps"):
            conditioning = condition(pipeline, group[0].job, prompts, geometry)
        for request in group:
            clock = Clock(None, pipeline.ledger)
            clock.seconds.update(shared.seconds)
            made.append(_denoise(pipeline, request, conditioning, geometry, steering, clock, video))
            latents.append(made[-1].latents)
    return made


def decode(pipeline: Pipeline, item: Denoised, geometry: Geometry, device: str, output_type: str) -> Video:
    """Return the video of denoised latents, in one of OUTPUT_TYPES."""
    pixels = None
    if output_type != "latent":
        with item.clock.phase("decode"):
            pixels = pipeline.decode(item.latents, geometry)
    seconds = {**item.clock.seconds, "total": sum(item.clock.seconds.values())}
    prompted = item.job.prompt or item.job.negative_prompt
    cuts = prompt_cuts(item.job, pipeline.tokenizer) if prompted else {}
    record = make_record(item.job, cuts, pipeline.bundle, device, seconds, **item.notes)
    frames = as_images(pixels) if pixels is not None and output_type == "pil" else pixels
    return Video(frames, item.latents, record, item.job, pixels)


def _encoded(pipeline: Pipeline, request: Request, geometry: Geometry, clock: Clock) -> np.ndarray | None:
    if request.given.video is None:
        return None
    with clock.phase("encode the video"):
        return pipeline.encode(request.given.video, geometry)


def _denoise(
    pipeline: Pipeline,
    request: Request,
    conditioning: Conditioning,
    geometry: Geometry,
    steering: MakeSteering | None,
    clock: Clock,
    video: np.ndarray | None,
) -> Denoised:
    job, given = request.job, request.given
    steer = None if steering is None else steering(job, conditioning)
    with clock.phase("denoise"):
        start = starting_latents(pipeline, job, given, geometry, video)
        latents = pipeline.denoise(start, conditioning, steer=steer)
    notes: dict[str, Any] = {"arrays": given.hashes()} if given.hashes() else {}
    if steer is not None:
        notes["callback"] = {"steps_done": steer.done, "changed_latents_after": steer.changed_latents}
        if steer.guidance_changed:
            before = np.broadcast_to(np.asarray(job.guidance_scale), steps_of(job))[: first_step(job)]
            job = replace(job, guidance_scale=tuple(map(float, (*before, *steer.guidance))))
    return Denoised(latents, job, clock, notes)
