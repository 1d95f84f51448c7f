"""The whole product against diffusers' own pipeline, from the same checkpoint folder.

Its decoder is corrected to drop frames where Genmo's does: see genmo_decoder.py.
"""

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import MochiPipeline
from safetensors.numpy import load_file

import mochi_aot
from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.targets import open_backend
from mochi_aot.tools.commands.compile import main as compile_main
from mochi_aot.tools.commands.run import main as run_main
from tests.genmo_decoder import corrected
from tests.reference_run import relative_error

PROMPT, NEGATIVE, STEPS, GUIDANCE = "a red fox runs over the snow", "blur", 3, 4.5
SIZE = (32, 48, 13)
# Float32 in another order of summation, amplified by the guidance in each of the steps.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("diffusers") / "checkpoint"
    write_checkpoint(path, TINY, "diffusers", seed=11)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    path = checkpoint.with_name("bundle")
    options = ["--target", "torch", "--mesh", "2x2", "--dtype", "float32", "--geometry", "x".join(map(str, SIZE))]
    result = CliRunner().invoke(compile_main, ["--checkpoint", str(checkpoint), *options, "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


def run(bundle: Path, folder: Path, *options: str) -> np.ndarray:
    """Latents that mochi-run saves."""
    latents = folder / "latents.safetensors"
    common = ["--steps", str(STEPS), "--guidance-scale", str(GUIDANCE), "--seed", "3", "--no-decode", "--force"]
    result = CliRunner().invoke(run_main, [str(bundle), *common, "--save-latents", str(latents), *options])
    assert result.exit_code == 0, result.output
    return load_file(latents)["latents"]


def theirs(checkpoint: Path) -> Any:
    """diffusers' pipeline, with the corrected decoder."""
    pipeline = MochiPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
    corrected(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(*seeds: int) -> np.ndarray:
    height, width, _ = SIZE
    return np.concatenate([seeded_latents(seed, (1, 12, 3, height // 8, width // 8)) for seed in seeds])


def asked(**changes: Any) -> dict[str, Any]:
    """Keywords that both pipelines take."""
    height, width, frames = SIZE
    sizes = {"height": height, "width": width, "num_frames": frames}
    return {**sizes, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, **changes}


def pipelines(checkpoint: Path, negative: str, output: str) -> np.ndarray:
    """What diffusers' pipeline makes: latents, or with `np` frames [F, H, W, 3] of 0 to 1."""
    options = asked(latents=torch.from_numpy(noise(3)), output_type=output)
    made = theirs(checkpoint)(prompt=PROMPT, negative_prompt=negative, **options).frames
    return made.numpy() if output == "latent" else made[0]


@pytest.mark.slow
@pytest.mark.parametrize("negative", [NEGATIVE, "of the"])
def test_latents_of_a_prompt_equal_the_pipelines(checkpoint, bundle, tmp_path, negative):
    expected = pipelines(checkpoint, negative, "latent")
    # The pipeline un-normalises what it returns as latents only when it decodes; these are the sampler's own.
    got = run(bundle, tmp_path, "--prompt", PROMPT, "--negative-prompt", negative)
    assert relative_error(got, expected) < TOLERANCE


@pytest.mark.slow
def test_frames_of_a_prompt_equal_the_pipelines(checkpoint, bundle, tmp_path):
    """From prompt to frames. Rounding to whole levels takes half of one, and TOLERANCE of 255 a little more."""
    expected = 255 * pipelines(checkpoint, NEGATIVE, "np")
    latents = run(bundle, tmp_path, "--prompt", PROMPT, "--negative-prompt", NEGATIVE)
    opened = Bundle.open(bundle)
    pipeline = Pipeline(opened, open_backend(opened, "cpu"))
    frames = pipeline.decode(latents, pipeline.geometry())
    assert frames.shape == expected.shape and expected.std() > 10
    assert np.abs(frames - expected).max() < 0.5 + 255 * TOLERANCE


def test_saved_prompt_embeds_give_the_same_latents(bundle, tmp_path):
    embeds = tmp_path / "embeds.safetensors"
    first = run(bundle, tmp_path, "--prompt", PROMPT, "--save-prompt-embeds", str(embeds))
    assert np.array_equal(run(bundle, tmp_path, "--prompt-embeds", str(embeds)), first)


def test_prompts_matter(bundle, tmp_path):
    one, other = run(bundle, tmp_path, "--prompt", PROMPT), run(bundle, tmp_path, "--prompt", "the sea at night")
    assert relative_error(one, other) > 100 * TOLERANCE


PROMPTS, NEGATIVES = [PROMPT, "the sea at night"], [NEGATIVE, "a red"]


@pytest.fixture(scope="module")
def pipe(bundle):
    with mochi_aot.load(bundle) as loaded:
        yield loaded


def latents_of(videos: list[mochi_aot.Video]) -> np.ndarray:
    return np.concatenate([video.latents for video in videos])


def test_every_argument_of_the_pipeline_is_there_or_documented_as_not_there():
    ours, other = (set(signature(kind.__call__).parameters) for kind in (mochi_aot.VideoPipeline, MochiPipeline))
    page = (Path(__file__).parents[1] / "docs/api.md").read_text()
    absent = page.partition("Not here:")[2].partition("Two things differ")[0]
    assert other - ours == {name for name in other if f"`{name}`" in absent}
    assert other - ours == {"generator", "timesteps", "max_sequence_length", "attention_kwargs", "return_dict"}


@pytest.mark.slow
@pytest.mark.parametrize(("negative", "count"), [(NEGATIVES, None), (NEGATIVE, 1)])
def test_lists_of_prompts_are_the_pipelines(checkpoint, pipe, negative, count):
    start = noise(3, 4)
    common = asked(prompt=PROMPTS, negative_prompt=negative, output_type="latent")
    # diffusers wants a list for a list.
    listed = {**common, "negative_prompt": negative if isinstance(negative, list) else [negative] * 2}
    expected = theirs(checkpoint)(**listed, latents=torch.from_numpy(start)).frames.numpy()
    videos = pipe(**common, latents=start, num_videos_per_prompt=count)
    assert relative_error(latents_of(videos), expected) < TOLERANCE


@pytest.mark.slow
def test_several_videos_of_a_prompt_are_the_pipelines(checkpoint, pipe):
    start = noise(3, 4)
    common = asked(prompt=PROMPT, negative_prompt=NEGATIVE, output_type="latent", num_videos_per_prompt=2)
    expected = theirs(checkpoint)(**common, latents=torch.from_numpy(start)).frames.numpy()
    assert relative_error(latents_of(pipe(**common, latents=start)), expected) < TOLERANCE
    assert relative_error(latents_of(pipe(**common, seed=3)), expected) < TOLERANCE


@pytest.mark.slow
def test_embeddings_are_given_and_taken_as_the_pipeline_does(checkpoint, pipe):
    """In the same order and shapes; each takes the other's."""
    pipeline = theirs(checkpoint)
    expected = [array.detach().numpy() for array in pipeline.encode_prompt(PROMPTS, NEGATIVES, device="cpu")]
    got = pipe.encode_prompt(PROMPTS, NEGATIVES)
    for ours, other, mask in zip(got, expected, (got[1], None, got[3], None), strict=True):
        assert ours.shape == other.shape and ours.dtype == other.dtype
        kept = np.ones_like(ours, bool) if mask is None else mask[..., None]
        assert relative_error(ours * kept, other * kept) < TOLERANCE
    start, common = noise(3, 4), asked(output_type="latent")
    videos = pipe(**got._asdict(), **common, latents=start)
    tensors = {name: torch.from_numpy(array) for name, array in got._asdict().items()}
    made = pipeline(**tensors, **common, latents=torch.from_numpy(start)).frames.numpy()
    assert relative_error(latents_of(videos), made) < TOLERANCE
    given = {name: torch.from_numpy(array) for name, array in zip(got._fields, expected, strict=True)}
    assert relative_error(latents_of(pipe(**given, **common, latents=start)), made) < TOLERANCE  # tensors are taken too


@pytest.mark.slow
def test_sigmas_are_those_of_the_pipelines_scheduler(checkpoint, pipe, monkeypatch):
    """diffusers' pipeline for Mochi takes no sigmas, but makes a list of them for its scheduler, which does."""
    sigmas = [1.0, 0.8, 0.3]
    monkeypatch.setattr("diffusers.pipelines.mochi.pipeline_mochi.linear_quadratic_schedule", lambda *_: sigmas)
    start, common = noise(3), asked(prompt=PROMPT, negative_prompt=NEGATIVE, output_type="latent")
    expected = theirs(checkpoint)(**common, latents=torch.from_numpy(start)).frames.numpy()
    for whole in (sigmas, [*sigmas, 0.0]):  # with and without the 0 that the scheduler puts behind them
        got = pipe(**common, latents=start, sigmas=whole).latents
        assert relative_error(got, expected) < TOLERANCE
    assert relative_error(pipe(**common, latents=start).latents, expected) > 100 * TOLERANCE


class Callback:
    """One callback for both pipelines, as diffusers documents them: it sets the guidance scale, and stops."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, np.ndarray]] = []

    def __call__(self, pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        self.seen.append((step, float(timestep), np.array(given["latents"])))
        if step == 0:
            pipe._guidance_scale = 1.5
        if step == 1:
            given["latents"] = given["latents"] * 0.9
        if step == 3:
            pipe._interrupt = True
        return given


@pytest.mark.slow
def test_a_callback_works_as_in_the_pipeline(checkpoint, pipe):
    common = asked(prompt=PROMPT, negative_prompt=NEGATIVE, output_type="latent", num_inference_steps=6)
    ours, other = Callback(), Callback()
    expected = theirs(checkpoint)(**common, latents=torch.from_numpy(noise(3)), callback_on_step_end=other).frames
    video = pipe(**common, latents=noise(3), callback_on_step_end=ours)
    assert [step for step, *_ in ours.seen] == [step for step, *_ in other.seen] == [0, 1, 2, 3]
    # Times of up to 1000, which diffusers has as float32.
    np.testing.assert_allclose([item[1] for item in ours.seen], [item[1] for item in other.seen], rtol=1e-6, atol=1e-3)
    for (*_, got), (*_, made) in zip(ours.seen, other.seen, strict=True):
        assert relative_error(got, made) < TOLERANCE
    assert relative_error(video.latents, expected.numpy()) < TOLERANCE
    arguments = video.record["arguments"]
    assert arguments["guidance-scale"] == [GUIDANCE, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert video.record["callback"] == {"steps_done": 4, "changed_latents_after": [1]}
