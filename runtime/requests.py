"""From the arguments of one call to the videos that it asks for, all checked before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name, input_shape, require_fitting, with_sizes
from mochi_aot.runtime.job import Job, check_sampling, resolve_sampling
from mochi_aot.runtime.sampling import Given
from mochi_aot.runtime.tensor_files import Embedding, embedding, floats

ArrayLike = Any  # whatever numpy takes for an array


@dataclass(frozen=True)
class Request:
    """One video: its job with all options filled in, and the arrays that stand for some of them."""

    job: Job
    given: Given


@dataclass(frozen=True)
class Schedule:
    """How to denoise: fields of a Job under diffusers' names."""

    num_inference_steps: int | None = None
    guidance_scale: float | Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    threshold_noise: float | None = None
    linear_steps: int | None = None

    def job(self) -> Job:
        """Return a job with these options, unchecked."""
        scale = self.guidance_scale
        return Job(
            steps=self.num_inference_steps,
            guidance_scale=scale if scale is None or np.isscalar(scale) else tuple(map(float, scale)),  # type: ignore
            sigmas=None if self.sigmas is None else tuple(map(float, self.sigmas)),
            threshold_noise=self.threshold_noise,
            linear_steps=self.linear_steps,
        )


@dataclass(frozen=True)
class Call:
    """The arguments of one call, as `VideoPipeline.__call__` explains them."""

    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
    num_videos_per_prompt: int | None = None
    seed: int | Sequence[int] | None = None
    latents: ArrayLike | None = None
    prompt_embeds: ArrayLike | None = None
    prompt_attention_mask: ArrayLike | None = None
    negative_prompt_embeds: ArrayLike | None = None
    negative_prompt_attention_mask: ArrayLike | None = None

    def geometry(self, bundle: Bundle) -> Geometry:
        """Return the geometry of the sizes given; without any, the one of the latents, or the bundle's first."""
        name = with_sizes(None, self.height, self.width, self.num_frames)
        if name is None and self.latents is not None:
            shape = (1, *np.shape(self.latents)[1:])
            return require_fitting(bundle, "denoise", "latents", shape)
        return find_geometry(bundle, name)

    def requests(self, bundle: Bundle, geometry: Geometry) -> list[list[Request]]:
        """Return the videos of each prompt. Raise OptionError for arguments that cannot be, or not together."""
        self._check_pairs()
        prompts = self._prompts(bundle, geometry)
        count = 1 if self.num_videos_per_prompt is None else self.num_videos_per_prompt
        if count < 1:
            raise OptionError(f"num_videos_per_prompt is {count}, expected 1 or more")
        noise = self._noise(bundle, geometry, len(prompts) * count)
        made = []
        for index, (job, given) in enumerate(prompts):
            videos = noise[index * count : (index + 1) * count]
            made.append([self._request(job, given, seed, latents) for seed, latents in videos])
        return made

    def is_single(self) -> bool:
        """Tell whether the call asks for one video, and not for a list."""
        several = self.num_videos_per_prompt is not None or not (self.prompt is None or isinstance(self.prompt, str))
        return not several and (self.prompt_embeds is None or np.shape(self.prompt_embeds)[:1] == (1,))

    def _check_pairs(self) -> None:
        """Raise OptionError for arguments that exclude each other, or come in pairs."""
        if (self.prompt is None) == (self.prompt_embeds is None):
            raise OptionError("give either prompt or prompt_embeds")
        if self.negative_prompt is not None and self.negative_prompt_embeds is not None:
            raise OptionError("negative_prompt and negative_prompt_embeds exclude each other; give one")
        if self.seed is not None and self.latents is not None:
            raise OptionError("seed and latents exclude each other: the latents are the starting noise; give one")
        for prefix in ("", "negative_"):
            embeds, mask = f"{prefix}prompt_embeds", f"{prefix}prompt_attention_mask"
            if (getattr(self, embeds) is None) != (getattr(self, mask) is None):
                raise OptionError(f"{embeds} and {mask} belong together; give both")

    def _prompts(self, bundle: Bundle, geometry: Geometry) -> list[tuple[Job, Given]]:
        """Return a job for each prompt, without seeds, and its embeddings if they were given."""
        job = replace(self.schedule.job(), geometry=geometry_name(geometry))
        positive = self._embeddings(bundle, geometry, "")
        texts = _texts("prompt", self.prompt, 1) if positive is None else [None] * len(positive)
        negative = self._embeddings(bundle, geometry, "negative_")
        if negative is not None and len(negative) == 1:
            negative = negative * len(texts)
        others = [None] * len(texts) if negative is not None else self._negative_texts(len(texts))
        if negative is not None and len(negative) != len(texts):
            raise OptionError(
                f"negative_prompt_embeds has {len(negative)} prompts, expected {len(texts)}, as the others"
            )
        return [
            (
                replace(job, prompt=text, negative_prompt=other),
                Given(None if positive is None else positive[index], None if negative is None else negative[index]),
            )
            for index, (text, other) in enumerate(zip(texts, others, strict=True))
        ]

    def _negative_texts(self, count: int) -> Sequence[str]:
        texts = _texts("negative_prompt", self.negative_prompt or "", count)
        if len(texts) != count:
            raise OptionError(f"negative_prompt has {len(texts)} prompts, expected {count}, as the others, or one text")
        return texts

    def _embeddings(self, bundle: Bundle, geometry: Geometry, prefix: str) -> list[Embedding] | None:
        """Return each prompt's embedding of the arrays that were given, or None."""
        embeds, mask = getattr(self, f"{prefix}prompt_embeds"), getattr(self, f"{prefix}prompt_attention_mask")
        if embeds is None:
            return None
        _, length, width = input_shape(bundle.program("prepare_prompt", geometry), "prompt_embeds")
        shape = (*np.shape(embeds)[:1], length, width)
        whole = embedding(embeds, mask, shape, prefix)
        if len(whole.embeds) == 0:
            raise OptionError(f"{prefix}prompt_embeds has no prompt; expected [prompts, {length}, {width}]")
        return [Embedding(whole.embeds[i : i + 1], whole.mask[i : i + 1]) for i in range(len(whole.embeds))]

    def _noise(self, bundle: Bundle, geometry: Geometry, count: int) -> list[tuple[int | None, np.ndarray | None]]:
        """Return seed and latents of each of `count` videos, of which one at most is given."""
        if self.latents is not None:
            shape = input_shape(bundle.program("denoise", geometry), "latents")
            latents = floats(self.latents, (count, *shape[1:]), "latents")
            return [(None, latents[index : index + 1]) for index in range(count)]
        if self.seed is None or isinstance(self.seed, int | np.integer):
            return [(None if self.seed is None else int(self.seed) + index, None) for index in range(count)]
        if len(self.seed) != count:
            raise OptionError(f"seed has {len(self.seed)} numbers, expected one for each of {count} videos")
        return [(int(seed), None) for seed in self.seed]

    def _request(self, job: Job, given: Given, seed: int | None, latents: np.ndarray | None) -> Request:
        job = replace(job, seed=seed)
        check_sampling(job)
        resolved = resolve_sampling(job)
        # A seed is drawn where none is given, and has no effect where there are latents.
        return Request(resolved if latents is None else replace(resolved, seed=None), replace(given, latents=latents))


def _texts(name: str, given: str | Sequence[str] | None, count: int) -> list[str]:
    """Return the prompts of a list, or one prompt `count` times."""
    texts = [given] * count if isinstance(given, str) else list(given or ())
    if not texts:
        raise OptionError(f"{name} is an empty list; give at least one")
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"{name} has {text!r} in it, expected text")
    return texts
