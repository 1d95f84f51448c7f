"""One video to make: its options, their ranges, and the checks that need no weights."""

import math
import os
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.defaults import (
    DEFAULT_FPS,
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_STEPS,
    DEFAULT_STRENGTH,
    DEFAULT_THRESHOLD_NOISE,
)
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name
from mochi_aot.runtime.noise import MAX_SEED
from mochi_aot.runtime.schedule import default_linear_steps, free_sigmas, linear_quadratic_sigmas

MAX_GUIDANCE_SCALE = 100.0
MAX_STEPS = 10_000
MAX_FPS = 1000.0
MAX_PROMPT = 1 << 14  # characters; encoders take 256 tokens, of which hardly any has 16
VIDEO_SUFFIX = ".mp4"
_FILES = ("output", "prompt_embeds", "latents", "input_video", "save_latents", "save_prompt_embeds", "decode_latents")
# Of a job that only decodes latents: nothing else has an effect.
_FOR_DECODING = ("decode_latents", "output", "fps", "geometry", "no_decode")


@dataclass(frozen=True)
class Job:
    """The options of one video. None means not given; `resolve` fills in what then applies."""

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    threshold_noise: float | None = None
    linear_steps: int | None = None
    fps: float = DEFAULT_FPS
    geometry: str | None = None
    output: str | None = None
    prompt_embeds: str | None = None
    latents: str | None = None
    input_video: str | None = None
    strength: float | None = None
    save_latents: str | None = None
    save_prompt_embeds: str | None = None
    decode_latents: str | None = None
    no_decode: bool = False


def option_name(field: str) -> str:
    """Return the name of a Job field as options, sweeps and records spell it."""
    return field.replace("_", "-")


def arguments(job: Job) -> dict[str, object]:
    """Return every option and its value, as JSON has them; as a line of a sweep they ask for the same job again."""
    values = {option_name(field): value for field, value in asdict(job).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check_options(job: Job) -> None:
    """Check ranges and combinations. Raise OptionError naming the option. Touch no file."""
    if job.decode_latents is not None:
        _check_decoding(job)
    else:
        _check_sources(job)
    _check_destinations(job)
    check_sampling(job)


def check_sampling(job: Job) -> None:
    """Check what a job asks of the sampler, and its texts and numbers; not from where and to where.

    Raise OptionError naming the option.
    """
    _check_text(job)
    _check_schedule(job)
    for scale in _scales(job):
        check_guidance_scale(scale)
    if not (math.isfinite(job.fps) and 1.0 <= job.fps <= MAX_FPS):
        raise OptionError(f"fps is {job.fps:g}, expected 1 to {MAX_FPS:g}")
    if job.seed is not None and not 0 <= job.seed <= MAX_SEED:
        raise OptionError(f"seed is {job.seed}, expected 0 to 2**63 - 1")


def check_guidance_scale(scale: float) -> None:
    """Raise OptionError for a guidance scale out of range."""
    if not 0.0 <= scale <= MAX_GUIDANCE_SCALE:
        raise OptionError(f"guidance scale is {scale:g}, expected 0 to {MAX_GUIDANCE_SCALE:g}")


def steps_of(job: Job) -> int:
    """Return the number of steps: as given, or as long as the lists of sigmas and guidance scales, or the default.

    Raise OptionError for lists of another length.
    """
    steps = job.steps
    if job.sigmas is not None:
        ending = len(free_sigmas(job.sigmas))
        if steps is not None and steps != ending - 1:
            raise OptionError(f"sigmas has {ending} numbers with the last 0, expected {steps + 1} for {steps} steps")
        steps = ending - 1
    if isinstance(job.guidance_scale, tuple):
        given = len(job.guidance_scale)
        if given == 0 or (steps is not None and given != steps):
            wanted = "at least one" if steps is None else f"one for each of {steps} steps"
            raise OptionError(f"guidance scale has {given} numbers, expected {wanted}")
        steps = given
    return DEFAULT_STEPS if steps is None else steps


def first_step(job: Job) -> int:
    """Return the step, from 0, that denoising begins with: that of the input video's strength, or the first.

    As diffusers' pipelines for other models count: the last int(steps * strength) steps are done. Raise OptionError if
    that is none.
    """
    if job.strength is None:
        return 0
    steps = steps_of(job)
    done = min(int(steps * job.strength), steps)
    if done == 0 and job.strength > 0:
        raise OptionError(
            f"a strength of {job.strength:g} leaves none of {steps} steps; give {1 / steps:.4g} or more, or more steps"
        )
    return steps - done


def denoises(job: Job) -> bool:
    """Return whether anything is denoised: not for an input video of strength 0, which is encoded and decoded alone."""
    return job.strength != 0 and job.decode_latents is None


def resolve(job: Job, bundle: Bundle) -> Job:
    """Return the job with all that a run uses filled in: seed, steps, schedule, guidance scale and geometry.

    Raise OptionError for a geometry that the bundle does not have.
    """
    job = replace(job, geometry=geometry_name(find_geometry(bundle, job.geometry)))
    return job if job.decode_latents is not None else resolve_sampling(job)


def resolve_sampling(job: Job) -> Job:
    """Return the job with seed, steps, schedule and guidance scale filled in."""
    seed = job.seed if job.seed is not None or job.latents is not None else secrets.randbits(32)
    scale = DEFAULT_GUIDANCE_SCALE if job.guidance_scale is None else job.guidance_scale
    job = replace(job, seed=seed, steps=steps_of(job), guidance_scale=scale)
    if job.input_video is not None and job.strength is None:
        job = replace(job, strength=DEFAULT_STRENGTH)
    if job.sigmas is not None:
        return replace(job, sigmas=free_sigmas(job.sigmas))
    threshold = DEFAULT_THRESHOLD_NOISE if job.threshold_noise is None else job.threshold_noise
    linear_steps = default_linear_steps(steps_of(job)) if job.linear_steps is None else job.linear_steps
    return replace(job, threshold_noise=threshold, linear_steps=linear_steps)


def outputs(job: Job) -> list[Path]:
    """Return every file that a checked job leaves, the record last."""
    given = [job.output, job.save_latents, job.save_prompt_embeds]
    return [Path(name) for name in given if name is not None] + [record_path(job)]


def record_path(job: Job) -> Path:
    """Return where a checked job's record goes: beside the mp4, or beside the latents if there is no mp4."""
    main = job.output if job.output is not None else job.save_latents
    assert main is not None, "check_options asks for one of the two"
    return Path(main).with_suffix(".json")


def _check_text(job: Job) -> None:
    for option, text in (("prompt", job.prompt), ("negative-prompt", job.negative_prompt)):
        if text is not None and len(text) > MAX_PROMPT:
            raise OptionError(f"{option} has {len(text)} characters, expected at most {MAX_PROMPT}")
    for field, value in asdict(job).items():
        if isinstance(value, str) and "\0" in value:
            raise OptionError(f"{option_name(field)} has a NUL character in it")
        if field in _FILES and isinstance(value, str) and not _is_file_name(value):
            raise OptionError(f"{option_name(field)} is {value!a}, expected the name of a file")
    for text in (job.prompt, job.negative_prompt):
        if text is not None and not _is_unicode(text):
            raise OptionError(f"the prompt {text!a} is not valid Unicode text")


def _is_file_name(text: str) -> bool:
    """Return False for surrogates that stand for no byte of a name, and for what names a folder: "", "." and "/"."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return Path(text).name not in ("", "..")


def _is_unicode(text: str) -> bool:
    """Return False for the lone surrogates that broken bytes on a command line, or JSON escapes, turn into."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_schedule(job: Job) -> None:
    if job.sigmas is not None and (job.threshold_noise is not None or job.linear_steps is not None):
        raise OptionError("--sigmas is the whole schedule; leave out --threshold-noise and --linear-steps")
    steps = steps_of(job)
    if steps > MAX_STEPS:
        raise OptionError(f"steps is {steps}, expected at most {MAX_STEPS}")
    if job.sigmas is None:
        threshold = DEFAULT_THRESHOLD_NOISE if job.threshold_noise is None else job.threshold_noise
        linear_quadratic_sigmas(steps, threshold, job.linear_steps)
    if job.strength is not None and not 0.0 <= job.strength <= 1.0:
        raise OptionError(f"strength is {job.strength:g}, expected 0 to 1")
    first_step(job)


def _scales(job: Job) -> tuple[float, ...]:
    if job.guidance_scale is None:
        return ()
    return job.guidance_scale if isinstance(job.guidance_scale, tuple) else (job.guidance_scale,)


def _check_sources(job: Job) -> None:
    _check_input_video(job)
    if denoises(job) and job.prompt is None and job.prompt_embeds is None:
        raise OptionError("no prompt: give --prompt, or --prompt-embeds with a file")
    if job.prompt is not None and job.prompt_embeds is not None:
        raise OptionError("--prompt and --prompt-embeds exclude each other; give one")
    if job.seed is not None and job.latents is not None:
        raise OptionError("--seed and --latents exclude each other: the latents are the starting noise; give one")


def _check_input_video(job: Job) -> None:
    if job.strength is not None and job.input_video is None:
        raise OptionError("--strength is how far an input video is changed; give --input-video, or leave it out")
    if not denoises(job) and job.save_prompt_embeds is not None:
        raise OptionError("--strength 0 encodes no prompt; leave out --save-prompt-embeds, or give more strength")


def _check_decoding(job: Job) -> None:
    for field in fields(Job):
        if field.name not in _FOR_DECODING and getattr(job, field.name) is not None:
            raise OptionError(
                f"--decode-latents makes a video of finished latents; leave out --{option_name(field.name)}"
            )


def _check_destinations(job: Job) -> None:
    if job.no_decode:
        if job.decode_latents is not None:
            raise OptionError("--decode-latents and --no-decode exclude each other; give one")
        if job.save_latents is None:
            raise OptionError("--no-decode makes no video; give --save-latents, or nothing would be kept")
        if job.output is not None:
            raise OptionError("--no-decode makes no video, so --output cannot be written; leave out one of them")
        return
    if job.output is None:
        raise OptionError(f"no output: give --output with a name ending in {VIDEO_SUFFIX}")
    check_video_name(job.output)


def check_video_name(name: str) -> None:
    """Raise OptionError unless a file's name ends as an mp4's."""
    if Path(name).suffix != VIDEO_SUFFIX:
        raise OptionError(f"the output is {name!r}, expected a name ending in {VIDEO_SUFFIX}")
