"""Everything about jobs that can be found out before a device is opened or a weight loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.artifacts.schema import Geometry, Program
from mochi_aot.runtime.errors import InputFileError, OptionError, OutputError, OutputExistsError
from mochi_aot.runtime.geometry import find_geometry, fitting_geometries, geometry_name, input_shape
from mochi_aot.runtime.input_video import check_video_file
from mochi_aot.runtime.job import Job, check_options, denoises, outputs, resolve
from mochi_aot.runtime.kept import Denoised, find_kept, kept_path, open_denoised, refuse_kept
from mochi_aot.runtime.paths import check_writable
from mochi_aot.runtime.programs import load_programs, require_encoder
from mochi_aot.runtime.safetensors_file import read_header
from mochi_aot.runtime.sampling import DENOISING
from mochi_aot.runtime.targets import PREFIX_MASK_TARGETS
from mochi_aot.runtime.tensor_files import PromptEntries, check_latents_file, check_prompt_file, check_prompt_masks
from mochi_aot.runtime.tokenizer import PromptTokenizer, open_tokenizer


@dataclass(frozen=True)
class CheckedJob:
    """A job that will run: all options filled in, and its input files known to have the right tensors."""

    job: Job
    geometry: Geometry
    prompt_file: PromptEntries | None = None
    latents_entry: Entry | None = None
    denoised: Denoised | None = None  # latents of which only a video is to be made
    overwrite: bool = False  # whether files of its outputs' names are replaced
    cuts: Mapping[str, str] = field(default_factory=dict)  # by option, the end of a prompt that is too long


def check_job(job: Job, bundle: Bundle, go_on: bool = False) -> CheckedJob:
    """Check options, programs, the headers of input files, and masks. Raise a MochiError for the first fault.

    With `go_on`, latents that an earlier run of the same job kept are what the video is made of.
    """
    check_options(job)
    geometry = find_geometry(bundle, job.geometry)
    programs = load_programs(bundle, geometry)
    if job.decode_latents is not None:
        bundle.program("decode", geometry)
        return _check_decoding(job, open_denoised(Path(job.decode_latents)), bundle)
    if job.input_video is not None:
        require_encoder(bundle, geometry)
        check_video_file(Path(job.input_video), geometry)
    for role in (*(DENOISING if denoises(job) else ()), *(() if job.no_decode else ("decode",))):
        bundle.program(role, geometry)  # names the roles that there are
    prompt_file = _check_prompt_file(job, programs)
    if prompt_file is not None and bundle.manifest.target in PREFIX_MASK_TARGETS:
        check_prompt_masks(prompt_file)
    if denoises(job) and (prompt_file is None or prompt_file.negative is None):
        bundle.program("encode_text", geometry)
        job = replace(job, negative_prompt=job.negative_prompt or "")
    latents_entry = _check_latents_file(job, programs)
    resolved = resolve(job, bundle)
    found = find_kept(job, resolved, bundle) if go_on else None
    if found is not None:
        return _check_decoding(*found, bundle)
    return CheckedJob(resolved, geometry, prompt_file, latents_entry)


def check_outputs(job: Job, taken: set[Path], force: bool, go_on: bool = False, bundle: Path | None = None) -> None:
    """Check the files that a checked job writes, and add them to `taken`, the files of earlier jobs.

    Raise OutputError if one cannot be written, exists (without `force`, or as something else than is to be written), is
    taken, or is in the `bundle`. With `go_on`, kept latents are there to be used.
    """
    kept = kept_path(job)
    if not (force or go_on):
        refuse_kept(job)
    for path in [*outputs(job), *([] if kept is None else [kept])]:
        check_writable(path, force or path == kept)
        if bundle is not None and path.resolve().is_relative_to(bundle.resolve()):
            raise OutputError(f"the output {path} is in the bundle {bundle}; give another place")
        if path.resolve() in taken:
            raise OutputError(f"the output {path} would be written twice; give each file a name of its own")
        taken.add(path.resolve())
    for name, tensor in ((job.save_latents, "latents"), (job.save_prompt_embeds, "prompt_embeds")):
        if name is not None:
            _check_replaced(Path(name), tensor)


def _check_replaced(path: Path, tensor: str) -> None:
    """Raise OutputExistsError where a file is there that is neither empty nor one with this tensor."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        known = tensor in read_header(path)
    except InputFileError:
        known = False
    if not known:
        raise OutputExistsError(f"the output {path} exists and has no {tensor}, so --force does not replace it")


def check_tokenizer(jobs: Iterable[Job], bundle: Bundle) -> PromptTokenizer | None:
    """Return the tokenizer, None if no prompt has to be tokenized. Raise BundleError if it cannot be used."""
    if any(job.prompt or job.negative_prompt for job in jobs):
        return open_tokenizer(bundle)
    return None


def with_cuts(checked: CheckedJob, tokenizer: PromptTokenizer | None) -> CheckedJob:
    """Return the job with what of its prompts is cut off."""
    return checked if tokenizer is None else replace(checked, cuts=prompt_cuts(checked.job, tokenizer))


def prompt_cuts(job: Job, tokenizer: PromptTokenizer) -> dict[str, str]:
    """Return by option the end of a prompt that is too long, which has no effect."""
    prompts = {"prompt": job.prompt, "negative-prompt": job.negative_prompt}
    cuts = {option: tokenizer.cut(prompt) for option, prompt in prompts.items() if prompt}
    return {option: text for option, text in cuts.items() if text is not None}


def _check_decoding(job: Job, denoised: Denoised, bundle: Bundle) -> CheckedJob:
    """Choose the geometry, by the latents' shape where the job does not say which."""
    fitting = fitting_geometries(bundle, "decode", "latents", denoised.entry.shape)
    wanted = find_geometry(bundle, job.geometry)
    if wanted in fitting or (job.geometry is None and fitting):
        geometry = wanted if wanted in fitting else fitting[0]
        return CheckedJob(resolve(replace(job, geometry=geometry_name(geometry)), bundle), geometry, denoised=denoised)
    shape = list(input_shape(bundle.program("decode", wanted), "latents"))
    raise InputFileError(
        f"{denoised.path}: latents has shape {list(denoised.entry.shape)}, the bundle wants {shape}"
        f" for {geometry_name(wanted)}"
    )


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
