"""Several videos of one command: of a prompt, or of each line of a file of prompts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mochi_aot.runtime.errors import InputFileError, OptionError
from mochi_aot.runtime.job import Job, option_name
from mochi_aot.runtime.noise import MAX_SEED
from mochi_aot.runtime.text_lines import read_lines

MAX_VIDEOS = 10_000
# Files that each video has to have for itself.
_WRITTEN = ("output", "save_latents", "save_prompt_embeds")


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """Return each line of a text that is not blank, with its number. Raise InputFileError if there is none."""
    prompts = [(number, line.strip()) for number, line in read_lines(path)]
    if not prompts:
        raise InputFileError(f"{path} has no prompts; write one on each line")
    return prompts


def several_jobs(base: Job, prompts: Sequence[str | None], count: int) -> list[Job]:
    """Return `count` jobs for each prompt, one after the other, each with a number in the names of its files.

    Seeds count on from that of `base`, as in Python. Raise OptionError for options that all of them would share.
    """
    total = len(prompts) * count
    if total > MAX_VIDEOS:
        raise OptionError(f"{len(prompts)} prompts with {count} videos each, expected {MAX_VIDEOS} videos at most")
    if base.decode_latents is not None:
        raise OptionError("--decode-latents makes one video; leave out what asks for several")
    if base.latents is not None and count > 1:
        raise OptionError("--latents is the noise of one video; several of a prompt would be the same")
    if base.seed is not None and base.seed + total - 1 > MAX_SEED:
        raise OptionError(f"seed is {base.seed}, too large to count on from for {total} videos")
    made = []
    for index in range(total):
        seed = None if base.seed is None else base.seed + index
        made.append(_numbered(replace(base, prompt=prompts[index // count], seed=seed), index + 1, total))
    return made


def _numbered(job: Job, number: int, total: int) -> Job:
    """Return the job with its number behind the names of its files, before their suffixes."""
    digits = f"{number:0{len(str(total))}d}"
    names: dict[str, Any] = {}
    for field in _WRITTEN:
        name = getattr(job, field)
        if name is not None:
            path = Path(name)
            if not path.name:
                raise OptionError(f"{option_name(field)} is {name!r}, expected the name of a file")
            names[field] = str(path.with_name(f"{path.stem}-{digits}{path.suffix}"))
    return replace(job, **names)
