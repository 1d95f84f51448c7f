"""Several guided steps against diffusers' own pipeline."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, MochiPipeline

from mochi_aot.compiler.reference.programs import DenoiseStep
from mochi_aot.compiler.reference.sample import sample
from mochi_aot.compiler.reference.schedule import linear_quadratic_sigmas

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # from diffusers' rope

TOLERANCE = 1e-5  # as in test_dit; steps average errors, they do not add them up


@pytest.fixture
def pipeline(diffusers_dit, diffusers_vae):
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    pipe = MochiPipeline(scheduler, diffusers_vae, text_encoder=None, tokenizer=None, transformer=diffusers_dit)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("tokens, negative_tokens, guidance", [(1, 0, 4.5), (256, 9, 6.0), (20, 0, 1.5)])
def test_equals_diffusers_pipeline(
    config, geometry, pipeline, dit_weights, prompts, relative_error, tokens, negative_tokens, guidance
):
    step = DenoiseStep(config, geometry)
    step.load_state_dict(dit_weights)
    given = prompts(tokens, negative_tokens)
    noise = torch.randn(1, config.dit.in_channels, *geometry.latent_size(config))
    expected = pipeline(
        **given,
        height=geometry.height,
        width=geometry.width,
        num_frames=geometry.frames,
        num_inference_steps=4,
        guidance_scale=guidance,
        latents=noise,
        output_type="latent",
    ).frames
    sigmas = torch.from_numpy(linear_quadratic_sigmas(4))
    actual = sample(step, noise, sigmas, guidance, given)
    assert relative_error(expected, noise) > 0.1  # the steps did something
    assert relative_error(actual, expected) < TOLERANCE
