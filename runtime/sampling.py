"""From a job's options to what the sampler takes: embeddings, sigmas, guidance scales and starting noise."""

import hashlib
from dataclasses import dataclass

import numpy as np

from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.defaults import DEFAULT_THRESHOLD_NOISE
from mochi_aot.runtime.job import Job, first_step, steps_of
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Conditioning, Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding


@dataclass(frozen=True)
class Given:
    """Arrays that a job does not have to make.

    Encoded prompts, starting noise float32 [1, 12, T, H/8, W/8], and frames uint8 [F, H, W, 3] of a video to begin
    with.
    """

    positive: Embedding | None = None
    negative: Embedding | None = None
    latents: np.ndarray | None = None
    video: np.ndarray | None = None

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each array, by diffusers' names: records hold these in the place of the arrays."""
        arrays = {
            "prompt_embeds": self.positive and self.positive.embeds,
            "negative_prompt_embeds": self.negative and self.negative.embeds,
            "latents": self.latents,
            "video": self.video,
        }
        given = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in given.items()}


DENOISING = ("prepare_prompt", "prepare_steps", "denoise")


def roles(positive: bool, negative: bool, decode: bool, video: bool = False, denoise: bool = True) -> list[str]:
    """Return the programs that one video runs, in this order; for each prompt, whether its embedding is there.

    `video`: it begins with another video, and without `denoise` it ends with what the encoder makes of that.
    """
    text = [] if positive and negative else ["encode_text"]
    denoising = [*text, *DENOISING] if denoise else []
    return [*(["encode"] if video else []), *denoising, *(["decode"] if decode else [])]


def sigmas_of(job: Job) -> np.ndarray:
    """Return the schedule of the steps that a checked job does, float32 [those + 1], from at most 1 to 0."""
    first = first_step(job)
    if job.sigmas is not None:
        return np.array(job.sigmas, np.float32)[first:]
    threshold = DEFAULT_THRESHOLD_NOISE if job.threshold_noise is None else job.threshold_noise
    return linear_quadratic_sigmas(steps_of(job), threshold, job.linear_steps)[first:]


def starting_sigma(job: Job) -> float:
    """Return the share of noise that a checked job begins with, 0 where nothing is denoised."""
    return float(sigmas_of(job)[0])


def guidance_of(job: Job) -> np.ndarray:
    """Return the guidance scale of each step that a resolved job does, float32."""
    assert job.guidance_scale is not None, "a resolved job has a guidance scale"
    whole = np.broadcast_to(np.asarray(job.guidance_scale, np.float32), steps_of(job))
    return np.array(whole[first_step(job) :])


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


def starting_latents(
    pipeline: Pipeline, job: Job, given: Given, geometry: Geometry, video: np.ndarray | None = None
) -> np.ndarray:
    """Return the latents that denoising starts from, float32 [1, 12, T, H/8, W/8]: noise, or a noised `video`.

    `video`: what the encoder made of one, of the same shape. With the first sigma s it becomes s * noise +
    (1 - s) * video, as in flow matching (diffusers' FlowMatchEulerDiscreteScheduler.scale_noise).
    """
    noise = given.latents
    if noise is None:
        assert job.seed is not None, "a resolved job has a seed or latents"
        noise = seeded_latents(job.seed, pipeline.latent_shape(geometry))
    if video is None:
        return noise
    sigma = sigmas_of(job)[0]
    return sigma * noise + (1 - sigma) * video
