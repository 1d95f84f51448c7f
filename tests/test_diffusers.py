"""The whole product against diffusers' own pipeline, from the same checkpoint folder.

Its decoder is corrected to drop frames where Genmo's does: see genmo_decoder.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import MochiPipeline
from safetensors.numpy import load_file

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


def pipelines(checkpoint: Path, negative: str, output: str) -> np.ndarray:
    """What diffusers' pipeline makes: latents, or with `np` frames [F, H, W, 3] of 0 to 1, by a corrected decoder."""
    pipeline = MochiPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
    corrected(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    height, width, frames = SIZE
    made = pipeline(
        prompt=PROMPT,
        negative_prompt=negative,
        height=height,
        width=width,
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=torch.from_numpy(seeded_latents(3, (1, 12, 3, height // 8, width // 8))),
        output_type=output,
    ).frames
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
