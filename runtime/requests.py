"""From the arguments of one call to the videos that it asks for, all checked before anything runs."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry
from mochi_aot.runtime.defaults import DEFAULT_STRENGTH
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name, input_shape, require_fitting, with_sizes
from mochi_aot.runtime.input_video import frames_of
from mochi_aot.runtime.job import Job, arguments, check_sampling, resolve_sampling
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
        """Return a job with these options. Raise OptionError for values that are no numbers; ranges are unchecked."""
        scale: Any = self.guidance_scale
        return Job(
            steps=_whole("num_inference_steps", self.num_inference_steps),
            guidance_scale=_real("guidance_scale", scale) if np.ndim(scale) == 0 else _reals("guidance_scale", scale),
            sigmas=_reals("sigmas", self.sigmas),
            threshold_noise=_real("threshold_noise", self.threshold_noise),
            linear_steps=_whole("linear_steps", self.linear_steps),
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
    video: ArrayLike | None = None
    strength: float | None = None
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

    def arguments(self, bundle: Bundle) -> dict[str, object]:
        """Return the arguments that the record of a single video will have, all filled in. Raise OptionError."""
        ((request,),) = self.requests(bundle, self.geometry(bundle))
        return arguments(request.job)

    def requests(self, bundle: Bundle, geometry: Geometry) -> list[list[Request]]:
        """Return the videos of each prompt. Raise OptionError for arguments that cannot be, or not together."""
        self._check_pairs()
        prompts = self._prompts(bundle, geometry)
        count = _whole("num_videos_per_prompt", self.num_videos_per_prompt)
        count = 1 if count is None else count
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
        job = replace(self.schedule.job(), geometry=geometry_name(geometry), **self._beginning())
        video = None if self.video is None else frames_of(self.video, geometry)
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
                Given(
                    None if positive is None else positive[index],
                    None if negative is None else negative[index],
                    video=video,
                ),
            )
            for index, (text, other) in enumerate(zip(texts, others, strict=True))
        ]

    def _beginning(self) -> dict[str, Any]:
        """Return the fields of a job that are about a video to begin with."""
        strength = _real("strength", self.strength)
        if self.video is None:
            if strength is not None:
                raise OptionError("strength is how far a video is changed; give video, or leave it out")
            return {}
        if strength == 0:
            raise OptionError("strength is 0, with which nothing is denoised; use encode and decode")
        path = str(self.video) if isinstance(self.video, str | Path) else None
        return {"input_video": path, "strength": DEFAULT_STRENGTH if strength is None else strength}

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
        given: Any = self.seed
        if np.ndim(given) == 0:
            first = _whole("seed", given)
            return [(None if first is None else first + index, None) for index in range(count)]
        seeds = [_whole("seed", seed) for seed in given]
        if len(seeds) != count:
            raise OptionError(f"seed has {len(seeds)} numbers, expected one for each of {count} videos")
        return [(seed, None) for seed in seeds]

    def _request(self, job: Job, given: Given, seed: int | None, latents: np.ndarray | None) -> Request:
        job = replace(job, seed=seed)
        check_sampling(job)
        resolved = resolve_sampling(job)
        # A seed is drawn where none is given, and has no effect where there are latents.
        return Request(resolved if latents is None else replace(resolved, seed=None), replace(given, latents=latents))


def _whole(name: str, value: Any) -> int | None:
    """Return a whole number of any type as an int, None as it is."""
    try:
        return None if value is None else operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}, expected a whole number") from None


def _real(name: str, value: Any) -> float | None:
    """Return a number of any type as a float, None as it is."""
    try:
        if isinstance(value, str):
            raise TypeError
        return None if value is None else float(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}, expected a number") from None


def _reals(name: str, values: Any) -> tuple[float, ...] | None:
    """Return a list of numbers, None as it is."""
    if values is None:
        return None
    if isinstance(values, str) or np.ndim(values) != 1:
        raise OptionError(f"{name} is {values!r}, expected a list of numbers")
    return tuple(number for number in (_real(name, value) for value in values) if number is not None)


def _texts(name: str, given: str | Sequence[str] | None, count: int) -> list[str]:
    """Return the prompts of a list, or one prompt `count` times."""
    texts = [given] * count if isinstance(given, str) else list(given or ())
    if not texts:
        raise OptionError(f"{name} is an empty list; give at least one")
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"{name} has {text!r} in it, expected text")
    return texts
