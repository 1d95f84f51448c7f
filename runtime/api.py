"""The Python API for running: `load` opens a compiled bundle, and what it returns makes videos of prompts."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypedDict, Unpack, overload

import numpy as np

from mochi_aot.artifacts.delta import StyledBundle
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.batch import decode, denoise_all
from mochi_aot.runtime.checks import prompt_cuts
from mochi_aot.runtime.defaults import MOCK
from mochi_aot.runtime.errors import BusyError, ClosedError, OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name, require_fitting, require_frames, with_sizes
from mochi_aot.runtime.job import Job, check_sampling
from mochi_aot.runtime.jobs import cut_warning
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.opening import open_bundle, styled
from mochi_aot.runtime.pipeline import Pipeline, Usage, read_ahead
from mochi_aot.runtime.programs import require_encoder
from mochi_aot.runtime.requests import ArrayLike, Call, Schedule
from mochi_aot.runtime.result import Video, check_output_type
from mochi_aot.runtime.sampling import roles
from mochi_aot.runtime.steering import TENSOR_INPUTS, Steerable, Steering, StepEnd
from mochi_aot.runtime.targets import choose_device, open_backend
from mochi_aot.runtime.weight_reader import WeightReader

_LOG = logging.getLogger("mochi_aot")


OutputType = Literal["np", "pil", "latent"]


class CallOptions(TypedDict, total=False):
    """The keywords of `VideoPipeline.__call__` that do not decide what it returns."""

    negative_prompt: str | Sequence[str] | None
    height: int | None
    width: int | None
    num_frames: int | None
    num_inference_steps: int | None
    guidance_scale: float | Sequence[float] | None
    sigmas: Sequence[float] | None
    threshold_noise: float | None
    linear_steps: int | None
    seed: int | Sequence[int] | None
    latents: ArrayLike | None
    video: ArrayLike | None
    strength: float | None
    negative_prompt_embeds: ArrayLike | None
    negative_prompt_attention_mask: ArrayLike | None
    callback_on_step_end: StepEnd | None
    callback_on_step_end_tensor_inputs: Sequence[str]
    output_type: OutputType


class PromptEmbeds(NamedTuple):
    """Encoded prompts, in the order in which diffusers' encode_prompt returns them.

    Embeds are float32 [prompts, length, width], masks bool [prompts, length], true at the tokens that count.
    """

    prompt_embeds: np.ndarray
    prompt_attention_mask: np.ndarray
    negative_prompt_embeds: np.ndarray
    negative_prompt_attention_mask: np.ndarray


def load(
    path: str | Path,
    device: str | None = None,
    check_values: bool = False,
    require_signature: str | Path | None = None,
    expect_id: str | None = None,
    check: bool = True,
    delta: str | Path | None = None,
) -> "VideoPipeline":
    """Open the compiled bundle in the folder `path` for making videos; weights begin to be read.

    `device`: "cpu" (the default) or "cuda" for bundles of the target torch, "chips" (the default) or "mock" for ttnn;
    on a mock mesh everything happens but the computing, and videos are made of zeros. With `check_values`, slowly,
    numbers that are not finite are traced to the instruction that made them. `require_signature` is a file of trusted
    keys, one of which must have signed the bundle; `expect_id` is the id that it must have. Without `check` the weights
    are believed; with it their hashes are compared before they are used, beside reading. `delta` is the folder of a
    delta, as mochi-bundle makes it: the bundle's videos are then those of another style. See `use_delta`.

    Close the result, or use it in a `with` statement. A process may hold several bundles at once, but of those for ttnn
    one at a time. Raise BundleError for a folder that is no whole bundle, SignatureError for a bundle that is another
    one or has no such signature, BackendError if the bundle cannot run here.
    """
    keys = None if require_signature is None else Path(require_signature)
    bundle = open_bundle(path, delta, keys, expect_id)
    device = choose_device(bundle.manifest.target, device)
    geometry, ledger = bundle.manifest.geometries[0], Ledger()
    reader = WeightReader(bundle, ledger, check=check)
    try:
        wanted = (role for role in roles(False, False, True) if role in geometry.programs)
        read_ahead(reader, bundle, wanted, geometry)  # importing the target's library may take seconds
        backend = open_backend(bundle, device)
    except BaseException:
        reader.close()
        raise
    return VideoPipeline(Pipeline(bundle, backend, reader, ledger, check_values), device, keys)


class VideoPipeline(Steerable):
    """A bundle that is ready to make videos. Arrays come in and go out as numpy's; diffusers' names mean the same here.

    One thread at a time may use it: methods raise BusyError while another thread is in one, and ClosedError after
    `close`. A callback may call any method but `__call__`, `denoise` and `close`. All methods raise OptionError for
    arguments that cannot be, before anything runs, BackendError if a program fails, and NumbersError if one makes
    numbers that are not finite.
    """

    def __init__(self, pipeline: Pipeline, device: str, keys: Path | None = None) -> None:
        """`pipeline` becomes this object's; `load` is how to get one."""
        super().__init__()
        self.bundle: Bundle = pipeline.bundle
        self.device = device
        self.last_latents: list[np.ndarray] = []
        """Denoised latents of the last call, complete or not: if decoding fails, `decode` makes the video of them."""
        self._base = pipeline.bundle.base if isinstance(pipeline.bundle, StyledBundle) else pipeline.bundle
        self._keys = keys
        self._open: Pipeline | None = pipeline
        self._lock = threading.RLock()
        self._denoising = False

    @property
    def mock(self) -> bool:
        """Whether nothing is computed, and videos are made of zeros."""
        return self.device == MOCK

    @property
    def geometries(self) -> tuple[str, ...]:
        """The sizes of video that the bundle makes, each HEIGHTxWIDTHxFRAMES; the first one is the default."""
        return tuple(map(geometry_name, self.bundle.manifest.geometries))

    def close(self) -> None:
        """Let go of weights and devices. Closing again does nothing."""
        if self._open is None:
            return
        with self._exclusive() as pipeline:
            self._not_from_a_callback()
            self._open = None
            pipeline.close()

    def __enter__(self) -> Self:
        with self._exclusive():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def __call__(self, prompt: str, *, num_videos_per_prompt: None = None, **options: Unpack[CallOptions]) -> Video: ...

    @overload
    def __call__(self, prompt: str, *, num_videos_per_prompt: int, **options: Unpack[CallOptions]) -> list[Video]: ...

    @overload
    def __call__(
        self, prompt: list[str], *, num_videos_per_prompt: int | None = None, **options: Unpack[CallOptions]
    ) -> list[Video]: ...

    @overload
    def __call__(
        self,
        *,
        prompt_embeds: ArrayLike,
        prompt_attention_mask: ArrayLike,
        num_videos_per_prompt: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Video | list[Video]: ...

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        threshold_noise: float | None = None,
        linear_steps: int | None = None,
        num_videos_per_prompt: int | None = None,
        seed: int | Sequence[int] | None = None,
        latents: ArrayLike | None = None,
        video: ArrayLike | None = None,
        strength: float | None = None,
        prompt_embeds: ArrayLike | None = None,
        prompt_attention_mask: ArrayLike | None = None,
        negative_prompt_embeds: ArrayLike | None = None,
        negative_prompt_attention_mask: ArrayLike | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSOR_INPUTS,
        output_type: OutputType = "np",
    ) -> Video | list[Video]:
        """Make one video; or a list of them, for a list of prompts, or where `num_videos_per_prompt` is given.

        `prompt`: text, or a list of texts; or in its place `prompt_embeds`, float32 [prompts, length, width], with
        `prompt_attention_mask` [prompts, length] of zeros and ones. `negative_prompt` (default: empty) is one text for
        all prompts, or one for each; or `negative_prompt_embeds` with its mask.
        `height`, `width`, `num_frames`: which of the bundle's geometries; what is left out may be anything.
        `num_inference_steps`: 64 by default. `guidance_scale`: 6 by default, 0 to 100; or a list of one for each step.
        `sigmas`: a schedule of your own, falling from at most 1: one before each step, with the last 0 (Genmo's lists)
        or without it (diffusers'). Else `threshold_noise` (0.025) and `linear_steps` (half of the steps) make Mochi's.
        `num_videos_per_prompt`: the videos of one prompt follow each other, as in diffusers.
        `seed`: of the first video, the others count on from it; or a list of one for each video. Default: random ones,
        which the records have. `latents`: starting noise instead, float32 [videos, 12, T, H/8, W/8].
        `video`: one to begin with, uint8 [frames, height, width, 3], a list of frames or of PIL's images, or a file's
        name; it is scaled and cut to the geometry, and its first frames are taken. `strength`, 0.3 by default, is how
        far it is changed, above 0 and up to 1: the last int(steps * strength) steps are done, as diffusers counts.
        `callback_on_step_end(pipe, step, timestep, {"latents": ...})` is called after each step, as by diffusers. What
        it returns may hold other "latents" to go on with; it may set `pipe.guidance_scale`, for all later steps, and
        `pipe.interrupt`, to have what is there decoded. With callback_on_step_end_tensor_inputs=() it gets no latents,
        which then need not be fetched.
        `output_type`: what `frames` of a Video is: "np" uint8 [F, H, W, 3], "pil" a list of images, "latent" None.
        """
        check_output_type(output_type)
        call = Call(
            prompt,
            negative_prompt,
            height,
            width,
            num_frames,
            Schedule(num_inference_steps, guidance_scale, sigmas, threshold_noise, linear_steps),
            num_videos_per_prompt,
            seed,
            latents,
            video,
            strength,
            prompt_embeds,
            prompt_attention_mask,
            negative_prompt_embeds,
            negative_prompt_attention_mask,
        )
        with self._denoises() as pipeline:
            videos = self._make(pipeline, call, callback_on_step_end, callback_on_step_end_tensor_inputs, output_type)
        return videos[0] if call.is_single() else videos

    def use_delta(self, delta: str | Path | None) -> int:
        """Go on in the style of the delta in a folder, or with None in the bundle's own.

        Return how many weights differ. Only these are let go, and loaded again when they are next used. Where a
        signature was required of the bundle, one is of the delta. Raise BundleError for a delta that is not whole, or
        of another bundle: then the last style stays.
        """
        with self._exclusive() as pipeline:
            self._not_from_a_callback()
            self.bundle = self._base if delta is None else styled(self._base, delta, self._keys)
            return pipeline.use(self.bundle)

    def usage(self) -> Usage:
        """Return what was read and built since the last call, or since the bundle was loaded, and forget when.

        A process that makes videos for months calls this between them: what took how long would fill its memory.
        """
        with self._exclusive() as pipeline:
            return pipeline.usage()

    def encode_prompt(
        self, prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None = None
    ) -> PromptEmbeds:
        """Return what the text encoder makes of one prompt or several, and of the negative one, by default empty.

        An empty prompt has a mask of zeros. The result may be given to `__call__` by name, `**embeds._asdict()`, and to
        `denoise` by position.
        """
        with self._exclusive() as pipeline:
            geometry = pipeline.geometry()
            groups = Call(prompt, negative_prompt).requests(self.bundle, geometry)
            jobs = [group[0].job for group in groups]
            self._tell_cuts(pipeline, jobs)
            positive = [pipeline.encode_prompt(job.prompt or "") for job in jobs]
            negative = [pipeline.encode_prompt(job.negative_prompt or "") for job in jobs]
        arrays = [(item.embeds, item.mask) for item in positive], [(item.embeds, item.mask) for item in negative]
        return PromptEmbeds(*(np.concatenate(column) for items in arrays for column in zip(*items, strict=True)))

    def prepare_latents(
        self, seed: int, *, height: int | None = None, width: int | None = None, num_frames: int | None = None
    ) -> np.ndarray:
        """Return the noise that `__call__` starts from with this seed, float32 [1, 12, T, H/8, W/8]."""
        check_sampling(Job(seed=seed))
        with self._exclusive() as pipeline:
            geometry = find_geometry(self.bundle, with_sizes(None, height, width, num_frames))
            return seeded_latents(seed, pipeline.latent_shape(geometry))

    def denoise(
        self,
        latents: ArrayLike,
        prompt_embeds: ArrayLike,
        prompt_attention_mask: ArrayLike,
        negative_prompt_embeds: ArrayLike,
        negative_prompt_attention_mask: ArrayLike,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        threshold_noise: float | None = None,
        linear_steps: int | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSOR_INPUTS,
    ) -> np.ndarray:
        """Return denoised latents float32 [videos, 12, T, H/8, W/8] of noisy ones of the same shape.

        There is a prompt for each video, or one for all; other arguments are as in `__call__`. With `sigmas` that start
        below 1, latents of `encode` can be gone on from: sigma * noise + (1 - sigma) * latents for the first sigma.
        """
        videos = 1 if np.ndim(latents) == 0 else len(np.asarray(latents))
        shared = np.shape(prompt_embeds)[:1] == (1,)
        call = Call(
            schedule=Schedule(num_inference_steps, guidance_scale, sigmas, threshold_noise, linear_steps),
            num_videos_per_prompt=videos if shared else None,
            latents=latents,
            prompt_embeds=prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            negative_prompt_embeds=negative_prompt_embeds,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
        )
        with self._denoises() as pipeline:
            made = self._make(pipeline, call, callback_on_step_end, callback_on_step_end_tensor_inputs, "latent")
        return np.concatenate([video.latents for video in made])

    def decode(self, latents: ArrayLike) -> np.ndarray:
        """Return the frames uint8 [F, H, W, 3] (RGB) of denoised latents float32 [1, 12, T, H/8, W/8]."""
        array = np.asarray(latents, np.float32)
        with self._exclusive() as pipeline:
            return pipeline.decode(array, require_fitting(self.bundle, "decode", "latents", array.shape))

    def encode(self, frames: ArrayLike) -> np.ndarray:
        """Return the latents float32 [1, 12, T, H/8, W/8] of frames uint8 [F, H, W, 3] (RGB).

        Raise BundleError for a bundle without an encoder, which is compiled with `with_encoder`.
        """
        array = np.asarray(frames)
        if array.dtype != np.uint8:
            raise OptionError(f"frames are {array.dtype}, expected uint8: bytes from 0 to 255")
        with self._exclusive() as pipeline:
            require_encoder(self.bundle, pipeline.geometry())
            return pipeline.encode(array, require_frames(self.bundle, array.shape))

    def _make(
        self, pipeline: Pipeline, call: Call, callback: StepEnd | None, inputs: Sequence[str], output_type: str
    ) -> list[Video]:
        geometry = call.geometry(self.bundle)
        groups = call.requests(self.bundle, geometry)
        self._tell_cuts(pipeline, [group[0].job for group in groups])
        given = call.prompt_embeds is not None, call.negative_prompt_embeds is not None
        if call.video is not None:
            require_encoder(self.bundle, geometry)
        wanted = roles(*given, output_type != "latent", call.video is not None)
        for role in wanted:
            self.bundle.program(role, geometry)  # names the roles that there are
        pipeline.read_ahead(wanted, geometry)
        self.last_latents = []
        steering = None if callback is None else partial(Steering, self, callback, tuple(inputs), pipeline)
        made = denoise_all(pipeline, groups, geometry, steering, self.last_latents)
        return [decode(pipeline, item, geometry, self.device, output_type) for item in made]

    def _tell_cuts(self, pipeline: Pipeline, jobs: Sequence[Job]) -> None:
        """Warn of the ends of prompts that have no effect."""
        for job in jobs:
            cuts = prompt_cuts(job, pipeline.tokenizer) if job.prompt or job.negative_prompt else {}
            for option, text in cuts.items():
                _LOG.warning("%s", cut_warning(option, text, self.bundle.manifest.text_length))

    @contextmanager
    def _exclusive(self) -> Iterator[Pipeline]:
        """Keep other threads out. Raise BusyError if one of them is in, ClosedError after `close`."""
        if not self._lock.acquire(blocking=False):
            raise BusyError(
                f"{self.bundle.path} is in use by another thread; use it from one at a time, or load it once for each"
            )
        try:
            if self._open is None:
                raise ClosedError(f"{self.bundle.path} was closed; load it again")
            yield self._open
        finally:
            self._lock.release()

    @contextmanager
    def _denoises(self) -> Iterator[Pipeline]:
        """Keep other threads out, and a callback's own calls that would denoise."""
        with self._exclusive() as pipeline:
            self._not_from_a_callback()
            self._denoising = True
            try:
                yield pipeline
            finally:
                self._denoising = False
                self.begin_steps()

    def _not_from_a_callback(self) -> None:
        if self._denoising:
            raise BusyError(f"{self.bundle.path} is denoising; a callback may encode and decode, and nothing else")
