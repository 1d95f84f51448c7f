"""Everything about jobs that can be found out before a device is opened or a weight loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Program
from mochi_aot.runtime.errors import OptionError, OutputError
from mochi_aot.runtime.geometry import find_geometry, input_shape
from mochi_aot.runtime.job import Job, check_options, outputs, resolve
from mochi_aot.runtime.paths import check_writable
from mochi_aot.runtime.programs import load_programs
from mochi_aot.runtime.safetensors_file import Entry
from mochi_aot.runtime.targets import COUNTING_TARGETS
from mochi_aot.runtime.tensor_files import PromptEntries, check_latents_file, check_prompt_file, check_prompt_masks
from mochi_aot.runtime.tokenizer import PromptTokenizer


@dataclass(frozen=True)
class CheckedJob:
    """A job that will run: all options filled in, and its input files known to have the right tensors."""

    job: Job
    geometry: Geometry
    prompt_file: PromptEntries | None
    latents_entry: Entry | None
    cuts: Mapping[str, str] = field(default_factory=dict)  # by option, the end of a prompt that is too long


def check_job(job: Job, bundle: Bundle) -> CheckedJob:
    """Checks options, programs, the headers of input files, and masks. Raises a MochiError for the first fault."""
    check_options(job)
    geometry = find_geometry(bundle, job.geometry)
    programs = load_programs(bundle, geometry)
    for role in ("prepare_prompt", "prepare_steps", "denoise", *(() if job.no_decode else ("decode",))):
        bundle.program(role, geometry)  # names the roles that there are
    prompt_file = _check_prompt_file(job, programs)
    if prompt_file is not None and bundle.manifest.target in COUNTING_TARGETS:
        check_prompt_masks(prompt_file)
    if prompt_file is None or prompt_file.negative is None:
        bundle.program("encode_text", geometry)
        job = replace(job, negative_prompt=job.negative_prompt or "")
    latents_entry = _check_latents_file(job, programs)
    return CheckedJob(resolve(job, bundle), geometry, prompt_file, latents_entry)


def check_outputs(job: Job, taken: set[Path], force: bool) -> None:
    """Checks the files that a checked job writes, and adds them to `taken`, the files of earlier jobs.

    Raises OutputError if one cannot be written, exists (without `force`), or is taken.
    """
    for path in outputs(job):
        check_writable(path, force)
        if path.resolve() in taken:
            raise OutputError(f"the output {path} would be written twice; give each file a name of its own")
        taken.add(path.resolve())


def check_tokenizer(jobs: Iterable[Job], bundle: Bundle) -> PromptTokenizer | None:
    """Returns the tokenizer, None if no prompt has to be tokenized. Raises BundleError if it cannot be used."""
    if any(job.prompt or job.negative_prompt for job in jobs):
        return PromptTokenizer(bundle.tokenizer(), bundle.manifest.text_length)
    return None


def with_cuts(checked: CheckedJob, tokenizer: PromptTokenizer | None) -> CheckedJob:
    """The job with what of its prompts is cut off."""
    if tokenizer is None:
        return checked
    prompts = {"prompt": checked.job.prompt, "negative-prompt": checked.job.negative_prompt}
    cuts = {option: tokenizer.cut(prompt) for option, prompt in prompts.items() if prompt}
    return replace(checked, cuts={option: text for option, text in cuts.items() if text is not None})


def _check_prompt_file(job: Job, programs: Mapping[str, Program]) -> PromptEntries | None:
    if job.prompt_embeds is None:
        return None
    shape = input_shape(programs["prepare_prompt"], "prompt_embeds")
    entries = check_prompt_file(Path(job.prompt_embeds), shape)
    if entries.negative is not None and job.negative_prompt is not None:
        raise OptionError(f"--negative-prompt is given, but {job.prompt_embeds} has a negative prompt too; give one")
    return entries


def _check_latents_file(job: Job, programs: Mapping[str, Program]) -> Entry | None:
    if job.latents is None:
        return None
    return check_latents_file(Path(job.latents), input_shape(programs["denoise"], "latents"))
