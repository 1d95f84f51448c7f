"""diffusers' own pipeline on the trained checkpoint in Diffusers' layout makes the reference's video.

Its decoder is corrected to drop frames where Genmo's does: see tests/genmo_decoder.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MochiPipeline

from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.tools.benchmarks.similarity import squared_error, to_decibels
from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, Prompt
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.sampling import Sampler
from mochi_aot.tools.training.shipped import write_shapes
from tests.genmo_decoder import corrected

NEGATIVE, STEPS = "a small square", 12  # not empty: docs/prompts.md says what diffusers makes of an empty prompt


@pytest.mark.slow
def test_diffusers_pipeline_makes_the_same_video(trained: Models, prompts: list[Prompt], tmp_path: Path) -> None:
    """Float32 in another order, then a rounding to levels: one sample in a hundred off by a level is 68 dB."""
    write_shapes(tmp_path / "checkpoint", "diffusers", torch.float32)
    pipeline = MochiPipeline.from_pretrained(tmp_path / "checkpoint", torch_dtype=torch.float32)
    corrected(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    prompt = prompts[0]
    sampler = Sampler(trained.config, trained.text, trained.dit, trained.decoder)
    (expected,) = sampler.videos([prompt.words], [prompt.seed], STEPS, GUIDANCE_SCALE, negative=NEGATIVE)
    made = pipeline(
        prompt.words,
        negative_prompt=NEGATIVE,
        height=64,
        width=96,
        num_frames=19,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        latents=torch.from_numpy(seeded_latents(prompt.seed, (1, 12, 4, 8, 12))),
        output_type="np",
    ).frames[0]
    decibels = to_decibels(squared_error((255 * made).round().astype(np.uint8), expected))
    assert decibels is None or decibels >= 60.0
