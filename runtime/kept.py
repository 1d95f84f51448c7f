"""Denoised latents that are kept beside a video until it is whole, so that a late fault costs the decoding only."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mochi_aot.artifacts.delta import StyledBundle
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.runtime.defaults import DEFAULT_FPS
from mochi_aot.runtime.errors import InputFileError, OutputExistsError
from mochi_aot.runtime.job import Job, arguments
from mochi_aot.runtime.safetensors_file import read_notes
from mochi_aot.runtime.tensor_files import save_latents_file

KEPT_SUFFIX = ".latents.safetensors"  # in the place of the video's .mp4
_NOTE = "mochi_aot"
# What does not change the latents that a job makes.
_AFTERWARDS = ("output", "fps", "save-latents", "save-prompt-embeds", "no-decode", "decode-latents")


@dataclass(frozen=True)
class Denoised:
    """Latents in a file, finished but for decoding. `made_by` says what made them; it is empty in files of others."""

    path: Path
    entry: Entry
    made_by: Mapping[str, Any]


def kept_path(job: Job) -> Path | None:
    """Return where a job's latents are kept while it decodes; None if they are in a file anyway, or not decoded."""
    if job.output is None or job.save_latents is not None or job.decode_latents is not None:
        return None
    return Path(job.output).with_suffix(KEPT_SUFFIX)


def open_denoised(path: Path) -> Denoised:
    """Read the header of a file of denoised latents. Raise InputFileError if there are none in it."""
    header, notes = read_notes(path)
    if "latents" not in header:
        raise InputFileError(f"{path} has no tensor 'latents'; it has {', '.join(sorted(header)) or 'none'}")
    return Denoised(path, header["latents"], _made_by(notes))


def find_kept(asked: Job, resolved: Job, bundle: Bundle) -> tuple[Job, Denoised] | None:
    """Return the job and the latents that an earlier run of it kept; None if there are none of the same options.

    `resolved` is the job as `resolve` fills it in; where no seed was `asked` for, it gets that of the earlier run.
    """
    path = kept_path(resolved)
    if path is None or not path.exists():
        return None
    try:
        denoised = open_denoised(path)
    except InputFileError:
        return None
    before = denoised.made_by.get("arguments")
    if denoised.made_by.get("bundle") != bundle.id or not isinstance(before, dict):
        return None
    if asked.seed is None and asked.latents is None and type(before.get("seed")) is int:
        resolved = replace(resolved, seed=before["seed"])
    return (resolved, denoised) if _sampling(arguments(resolved)) == _sampling(before) else None


@contextmanager
def keeping(
    latents: np.ndarray, job: Job, bundle: Bundle, warn: Callable[[str], None], saved: bool = False
) -> Iterator[None]:
    """Keep latents float32 [1, 12, T, H/8, W/8] until the block has made the job's video, and remove them then.

    If the block raises, `warn` is called with a line that says where the latents are and how to go on. Where they
    cannot be kept, that is told, and the block runs all the same. `saved`: they come from there.
    """
    path = kept_path(job)
    place = path or Path(job.save_latents or job.decode_latents or "")
    if path is not None and not saved:
        try:
            save_latents_file(path, latents, {_NOTE: json.dumps({"bundle": bundle.id, "arguments": arguments(job)})})
        except OSError as error:
            warn(f"the denoised latents cannot be kept in {path}: {error.strerror or error}")
            yield
            return
    try:
        yield
    except BaseException:
        warn(f"the denoised latents are in {place}; to go on: {_command(job, bundle, place)}")
        raise
    if path is not None:
        path.unlink(missing_ok=True)


def refuse_kept(job: Job) -> None:
    """Raise OutputExistsError if latents that an earlier run kept would be replaced."""
    path = kept_path(job)
    if path is not None and path.exists():
        raise OutputExistsError(
            f"{path} has denoised latents that a stopped run kept; make the video of them with --decode-latents, "
            "or go on with --skip-existing if all options are the same, or give --force to replace them"
        )


def _made_by(notes: Mapping[str, str]) -> dict[str, Any]:
    try:
        description = json.loads(notes.get(_NOTE, "{}"))
    except (ValueError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


def _sampling(options: Mapping[str, object]) -> object:
    """Return the options that decide what the latents are, as JSON has them."""
    kept = {name: value for name, value in options.items() if name not in _AFTERWARDS}
    return json.loads(json.dumps(kept))


def _command(job: Job, bundle: Bundle, latents: Path) -> str:
    """Return the command line that makes the job's video of its denoised latents."""
    assert job.output is not None and job.geometry is not None, "a job that decodes has both"
    style = ["--delta", str(bundle.opened.path)] if isinstance(bundle, StyledBundle) else []
    words = ["mochi-run", str(bundle.path), *style, "--decode-latents", str(latents), "--geometry", job.geometry]
    words += [] if job.fps == DEFAULT_FPS else ["--fps", f"{job.fps:g}"]
    return shlex.join([*words, "-o", job.output])
