"""One video to make: its options, their ranges, and the checks that need no weights."""

import math
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.geometry import find_geometry, geometry_name
from mochi_aot.runtime.noise import MAX_SEED
from mochi_aot.runtime.schedule import (
    DEFAULT_STEPS,
    DEFAULT_THRESHOLD_NOISE,
    default_linear_steps,
    linear_quadratic_sigmas,
)
from mochi_aot.runtime.video import DEFAULT_FPS

DEFAULT_GUIDANCE_SCALE = 6.0  # Genmo's default in code; the example in its README uses 4.5
MAX_GUIDANCE_SCALE = 100.0
MAX_STEPS = 10_000
MAX_FPS = 1000.0


@dataclass(frozen=True)
class Job:
    """The options of one video. None means not given; `resolve` fills in what then applies."""

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int = DEFAULT_STEPS
    guidance_scale: float = DEFAULT_GUIDANCE_SCALE
    threshold_noise: float = DEFAULT_THRESHOLD_NOISE
    linear_steps: int | None = None
    fps: float = DEFAULT_FPS
    geometry: str | None = None
    output: str | None = None
    prompt_embeds: str | None = None
    latents: str | None = None
    save_latents: str | None = None
    save_prompt_embeds: str | None = None
    no_decode: bool = False


def option_name(field: str) -> str:
    """Returns the name of a Job field as options, sweeps and records spell it."""
    return field.replace("_", "-")


def arguments(job: Job) -> dict[str, object]:
    """Returns every option and its value; as a line of a sweep it asks for the same job again."""
    return {option_name(field): value for field, value in asdict(job).items()}


def check_options(job: Job) -> None:
    """Checks ranges and combinations. Raises OptionError naming the option. Touches no file."""
    _check_text(job)
    _check_sources(job)
    _check_destinations(job)
    if job.steps > MAX_STEPS:
        raise OptionError(f"steps is {job.steps}, expected at most {MAX_STEPS}")
    linear_quadratic_sigmas(job.steps, job.threshold_noise, job.linear_steps)
    if not 0.0 <= job.guidance_scale <= MAX_GUIDANCE_SCALE:
        raise OptionError(f"guidance scale is {job.guidance_scale:g}, expected 0 to {MAX_GUIDANCE_SCALE:g}")
    if not (math.isfinite(job.fps) and 1.0 <= job.fps <= MAX_FPS):
        raise OptionError(f"fps is {job.fps:g}, expected 1 to {MAX_FPS:g}")
    if job.seed is not None and not 0 <= job.seed <= MAX_SEED:
        raise OptionError(f"seed is {job.seed}, expected 0 to 2**63 - 1")


def resolve(job: Job, bundle: Bundle) -> Job:
    """Returns the job with seed, linear steps, negative prompt and geometry filled in.

    Raises OptionError for a geometry that the bundle does not have.
    """
    seed = job.seed if job.seed is not None or job.latents is not None else secrets.randbits(32)
    linear_steps = job.linear_steps if job.linear_steps is not None else default_linear_steps(job.steps)
    geometry = geometry_name(find_geometry(bundle, job.geometry))
    return replace(job, seed=seed, linear_steps=linear_steps, geometry=geometry)


def outputs(job: Job) -> list[Path]:
    """Returns every file that a checked job writes, the record last."""
    given = [job.output, job.save_latents, job.save_prompt_embeds]
    return [Path(name) for name in given if name is not None] + [record_path(job)]


def record_path(job: Job) -> Path:
    """Returns where a checked job's record goes: beside the mp4, or beside the latents if there is no mp4."""
    main = job.output if job.output is not None else job.save_latents
    assert main is not None, "check_options asks for one of the two"
    return Path(main).with_suffix(".json")


def _check_text(job: Job) -> None:
    for field, value in asdict(job).items():
        if isinstance(value, str) and "\0" in value:
            raise OptionError(f"{option_name(field)} has a NUL character in it")
    for text in (job.prompt, job.negative_prompt):
        if text is not None and not _is_unicode(text):
            raise OptionError(f"the prompt {text!a} is not valid Unicode text")


def _is_unicode(text: str) -> bool:
    """False for the lone surrogates that broken bytes on a command line, or JSON escapes, turn into."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_sources(job: Job) -> None:
    if job.prompt is None and job.prompt_embeds is None:
        raise OptionError("no prompt: give --prompt, or --prompt-embeds with a file")
    if job.prompt is not None and job.prompt_embeds is not None:
        raise OptionError("--prompt and --prompt-embeds exclude each other; give one")
    if job.seed is not None and job.latents is not None:
        raise OptionError("--seed and --latents exclude each other: the latents are the starting noise; give one")


def _check_destinations(job: Job) -> None:
    if job.no_decode:
        if job.save_latents is None:
            raise OptionError("--no-decode makes no video; give --save-latents, or nothing would be kept")
        if job.output is not None:
            raise OptionError("--no-decode makes no video, so --output cannot be written; leave out one of them")
        return
    if job.output is None:
        raise OptionError("no output: give --output with a name ending in .mp4")
    if Path(job.output).suffix != ".mp4":
        raise OptionError(f"the output is {job.output!r}, expected a name ending in .mp4")
