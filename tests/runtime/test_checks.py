"""What is found out before a device is opened: all of it from headers, without weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.checks import check_job, check_outputs, check_tokenizer
from mochi_aot.runtime.errors import InputFileError, OptionError, OutputError, OutputExistsError
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.tensor_files import Embedding, save_latents_file, save_prompt_file
from tests.runtime import toy_bundle

GOOD = Job(prompt="a fox", output="out.mp4")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    toy_bundle.write_bundle(tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def write_prompt(path: Path, length: int = toy_bundle.LENGTH, negative: bool = True) -> str:
    embedding = Embedding(np.zeros((1, length, toy_bundle.WIDTH), np.float32), np.ones((1, length), np.bool_))
    save_prompt_file(path, embedding, embedding)
    if not negative:
        save_file({name: value for name, value in load_file(path).items() if name.startswith("prompt")}, path)
    return str(path)


def test_a_good_job_is_filled_in(bundle: Bundle) -> None:
    checked = check_job(replace(GOOD, geometry="16x16x7"), bundle)
    assert checked.geometry == bundle.manifest.geometries[1]
    assert checked.job.negative_prompt == "" and checked.job.linear_steps == 32 and checked.job.seed is not None
    assert checked.prompt_file is None and checked.latents_entry is None


def test_options_are_checked(bundle: Bundle) -> None:
    with pytest.raises(OptionError, match="steps is 0"):
        check_job(replace(GOOD, steps=0), bundle)
    with pytest.raises(OptionError, match="no geometry '1x2x3' in the bundle; it has 16x32x13, 16x16x7"):
        check_job(replace(GOOD, geometry="1x2x3"), bundle)


def test_shapes_of_input_files(bundle: Bundle, tmp_path: Path) -> None:
    latents = tmp_path / "latents.safetensors"
    save_latents_file(latents, np.zeros((1, 12, 3, 2, 4), np.float32))
    assert check_job(replace(GOOD, latents=str(latents)), bundle).latents_entry is not None
    with pytest.raises(InputFileError, match=r"latents has shape \[1, 12, 3, 2, 4\], the bundle wants \[1, 12, 2, 2"):
        check_job(replace(GOOD, latents=str(latents), geometry="16x16x7"), bundle)
    prompt = write_prompt(tmp_path / "prompt.safetensors", toy_bundle.LENGTH + 1)
    with pytest.raises(InputFileError, match=r"prompt_embeds has shape \[1, 9, 4\], the bundle wants \[1, 8, 4\]"):
        check_job(replace(GOOD, prompt=None, prompt_embeds=prompt), bundle)


def test_masks_that_a_target_cannot_apply(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    holes = np.arange(toy_bundle.LENGTH)[None] % 2 == 0
    embeds = np.zeros((1, toy_bundle.LENGTH, toy_bundle.WIDTH), np.float32)
    save_prompt_file(path, Embedding(embeds, holes), Embedding(embeds, holes))
    job = replace(GOOD, prompt=None, prompt_embeds=str(path))
    check_job(job, bundle)
    toy_bundle.write_bundle(tmp_path / "ttnn", target="ttnn")
    with pytest.raises(InputFileError, match=r"prompt.safetensors: prompt_attention_mask has a one after zeros"):
        check_job(job, Bundle.open(tmp_path / "ttnn"))


def test_negative_prompts_of_files_and_of_options(bundle: Bundle, tmp_path: Path) -> None:
    both = replace(GOOD, prompt=None, prompt_embeds=write_prompt(tmp_path / "both.safetensors"))
    assert check_job(both, bundle).job.negative_prompt is None
    with pytest.raises(OptionError, match=r"--negative-prompt is given, but .* has a negative prompt too"):
        check_job(replace(both, negative_prompt=""), bundle)
    one = replace(both, prompt_embeds=write_prompt(tmp_path / "one.safetensors", negative=False))
    assert check_job(one, bundle).job.negative_prompt == ""
    assert check_job(replace(one, negative_prompt="blurry"), bundle).job.negative_prompt == "blurry"


def test_bundles_without_some_programs(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", without=["encode_text", "decode"])
    bundle = Bundle.open(tmp_path / "bundle")
    prompt = write_prompt(tmp_path / "prompt.safetensors")
    latents_only = Job(prompt_embeds=prompt, no_decode=True, save_latents="out.safetensors")
    check_job(latents_only, bundle)
    with pytest.raises(BundleError, match="no program 'encode_text'"):
        check_job(replace(latents_only, prompt="a fox", prompt_embeds=None), bundle)
    with pytest.raises(BundleError, match="no program 'decode'"):
        check_job(replace(latents_only, no_decode=False, output="out.mp4"), bundle)


def test_tokenizers_are_tried_if_a_prompt_needs_one(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "bundle", tokenizer=b"broken")
    bundle = Bundle.open(tmp_path / "bundle")
    check_tokenizer([Job(prompt="", negative_prompt=""), Job(prompt_embeds="p")], bundle)
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be used"):
        check_tokenizer([Job(prompt=""), Job(prompt="", negative_prompt="blurry")], bundle)


def test_outputs_are_taken_once(tmp_path: Path) -> None:
    taken: set[Path] = set()
    job = replace(GOOD, output=str(tmp_path / "a.mp4"))
    check_outputs(job, taken, force=False)
    assert taken == {tmp_path / "a.mp4", tmp_path / "a.json", tmp_path / "a.latents.safetensors"}
    with pytest.raises(OutputError, match=r"a.mp4 would be written twice"):
        check_outputs(replace(job, output=str(tmp_path / "." / "a.mp4")), taken, force=True)
    with pytest.raises(OutputError, match=r"a.json would be written twice"):  # a name that the record has
        check_outputs(replace(job, save_latents=str(tmp_path / "a.json")), set(), force=False)
    (tmp_path / "a.json").touch()
    with pytest.raises(OutputError, match=r"a.json exists"):
        check_outputs(job, set(), force=False)
    check_outputs(job, set(), force=True)


@pytest.mark.parametrize("option", ["save_latents", "save_prompt_embeds"])
def test_force_replaces_no_file_of_another_kind(tmp_path: Path, option: str) -> None:
    """Such as one of a bundle in use, by a slip of the hand."""
    tensor, other = {"save_latents": ("latents", "prompt_embeds"), "save_prompt_embeds": ("prompt_embeds", "latents")}[
        option
    ]
    job = replace(Job(output=str(tmp_path / "a.mp4")), **{option: str(tmp_path / "file")})
    for text in (b"notes", save({other: np.zeros(1, np.float32)})):
        (tmp_path / "file").write_bytes(text)
        with pytest.raises(OutputExistsError, match=f"file exists and has no {tensor}, so --force does not replace it"):
            check_outputs(job, set(), force=True)
    for text in (b"", save({tensor: np.zeros(1, np.float32)})):
        (tmp_path / "file").write_bytes(text)
        check_outputs(job, set(), force=True)


def test_nothing_is_written_into_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "b/weights").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "b/weights")
    for place in ("b/a.mp4", "link/a.mp4", "b/weights/a.mp4"):
        job = Job(output=str(tmp_path / place))
        with pytest.raises(OutputError, match=r"a\.mp4 is in the bundle .*/b; give another place"):
            check_outputs(job, set(), force=True, bundle=tmp_path / "b")
    check_outputs(Job(output=str(tmp_path / "a.mp4")), set(), force=True, bundle=tmp_path / "b")
