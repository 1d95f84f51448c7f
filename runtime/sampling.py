"""From a job's options to what the sampler takes: embeddings, sigmas, guidance scales and starting noise."""

import hashlib
from dataclasses import dataclass

import numpy as np

from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.defaults import DEFAULT_THRESHOLD_NOISE
from mochi_aot.runtime.job import Job, steps_of
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Conditioning, Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding


@dataclass(frozen=True)
class Given:
    """Arrays that a job does not have to make: encoded prompts, and starting noise float32 [1, 12, T, H/8, W/8]."""

    positive: Embedding | None = None
    negative: Embedding | None = None
    latents: np.ndarray | None = None

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each array, by diffusers' names: records hold these in the place of the arrays."""
        arrays = {
            "prompt_embeds": self.positive and self.positive.embeds,
            "negative_prompt_embeds": self.negative and self.negative.embeds,
            "latents": self.latents,
        }
        given = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in given.items()}


def roles(positive: bool, negative: bool, decode: bool) -> list[str]:
    """Return the programs that one video runs, in this order; for each prompt, whether its embedding is there."""
    encoder = [] if positive and negative else ["encode_text"]
    return [*encoder, "prepare_prompt", "prepare_steps", "denoise", *(["decode"] if decode else [])]


def sigmas_of(job: Job) -> np.ndarray:
    """Return the schedule of a job whose options are checked, float32 [steps + 1], from at most 1 to 0."""
    if job.sigmas is not None:
        return np.array(job.sigmas, np.float32)
    threshold = DEFAULT_THRESHOLD_NOISE if job.threshold_noise is None else job.threshold_noise
    return linear_quadratic_sigmas(steps_of(job), threshold, job.linear_steps)


def guidance_of(job: Job) -> np.ndarray:
    """Return the guidance scale of each step of a resolved job, float32 [steps]."""
    assert job.guidance_scale is not None, "a resolved job has a guidance scale"
    return np.array(np.broadcast_to(np.asarray(job.guidance_scale, np.float32), steps_of(job)))


def embeddings(pipeline: Pipeline, job: Job, given: Given) -> tuple[Embedding, Embedding]:
    """Return what the text encoder makes of the prompt and of the negative one, which is empty by default."""
    positive, negative = given.positive, given.negative
    if positive is None:
        assert job.prompt is not None, "a checked job has a prompt or an embedding"
        positive = pipeline.encode_prompt(job.prompt)
    if negative is None:
        negative = pipeline.encode_prompt(job.negative_prompt or "")
    return positive, negative


def condition(pipeline: Pipeline, job: Job, prompts: tuple[Embedding, Embedding], geometry: Geometry) -> Conditioning:
    """Prepare the steps of a resolved job."""
    return pipeline.condition(*prompts, sigmas_of(job), guidance_of(job), geometry)


def starting_noise(pipeline: Pipeline, job: Job, given: Given, geometry: Geometry) -> np.ndarray:
    """Return the latents that denoising starts from, float32 [1, 12, T, H/8, W/8]."""
    if given.latents is not None:
        return given.latents
    assert job.seed is not None, "a resolved job has a seed or latents"
    return seeded_latents(job.seed, pipeline.latent_shape(geometry))
