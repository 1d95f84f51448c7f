"""The DiT against diffusers on the same random weights."""

import pytest
import torch

from mochi_aot.compiler.reference.dit import AsymmDiT, masked_mean, patchify, unpatchify

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # from diffusers' rope

# Both sides compute in float32 and differ in the order of sums only. One matmul of these sizes is off by some 1e-7 of
# its largest value, the three blocks together by some 1e-6; ten times that still fails on any wrong weight or scale.
TOLERANCE = 1e-5


@pytest.fixture
def dit(config, dit_weights):
    model = AsymmDiT(config.dit)
    model.load_state_dict({name.removeprefix("dit."): weight for name, weight in dit_weights.items()})
    return model


@pytest.mark.parametrize("tokens", [(0, 1), (7, 256), (256, 256), (0, 0)])
@pytest.mark.parametrize("timestep", [0.0, 12.5, 1000.0])
def test_equals_diffusers_whatever_is_padded(
    config, geometry, dit, diffusers_dit, prompts, relative_error, tokens, timestep
):
    given = prompts(*tokens)
    size = geometry.latent_size(config)
    latents = torch.randn(1, config.dit.in_channels, *size)
    caption = torch.cat([given["negative_prompt_embeds"], given["prompt_embeds"]])
    mask = torch.cat([given["negative_prompt_attention_mask"], given["prompt_attention_mask"]])
    expected = diffusers_dit(
        hidden_states=latents.expand(2, -1, -1, -1, -1),
        encoder_hidden_states=caption,
        timestep=torch.full((2,), timestep),
        encoder_attention_mask=mask,
    ).sample
    actual = unpatchify(dit(latents, torch.full((1,), timestep), caption, mask), size, config.dit.patch)
    assert relative_error(actual, expected) < TOLERANCE


def test_padding_has_no_influence(config, geometry, dit, prompts):
    given = prompts(5, 0)
    caption, mask = given["prompt_embeds"], given["prompt_attention_mask"]
    latents, timestep = torch.randn(1, config.dit.in_channels, *geometry.latent_size(config)), torch.tensor([500.0])
    other = torch.where(mask[..., None], caption, 100.0)
    assert torch.equal(dit(latents, timestep, caption, mask), dit(latents, timestep, other, mask))


def test_bfloat16_follows_float32(config, geometry, dit, dit_weights, prompts):
    given = prompts(7, 0)
    caption, mask = given["prompt_embeds"], given["prompt_attention_mask"]
    latents, timestep = torch.randn(1, config.dit.in_channels, *geometry.latent_size(config)), torch.tensor([500.0])
    half = AsymmDiT(config.dit, torch.bfloat16)
    half.load_state_dict({name.removeprefix("dit."): weight for name, weight in dit_weights.items()})
    assert half.pos_frequencies.dtype is torch.float32
    assert torch.equal(half.pos_frequencies, dit.pos_frequencies)
    actual = half(latents, timestep, caption.bfloat16(), mask)
    expected = dit(latents, timestep, caption, mask)
    assert actual.dtype is torch.bfloat16
    correlation = torch.corrcoef(torch.stack([actual.float().flatten(), expected.flatten()]))[0, 1]
    assert correlation > 0.999  # 8 bits of mantissa: each value is off by some 1e-2 of the largest


def test_patches_hold_the_channel_outermost_and_velocities_innermost():
    latents = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(1, 2, 3, 4, 4)
    tokens = patchify(latents, patch=2)
    assert tokens.shape == (1, 12, 8)
    assert torch.equal(tokens[0, 1].reshape(2, 2, 2), latents[0, :, 0, 0:2, 2:4])
    velocity = tokens.unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2)
    assert torch.equal(unpatchify(velocity, (3, 4, 4), patch=2), latents)


def test_masked_mean_of_nothing_is_zero():
    x = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    mean = masked_mean(x, mask)
    assert torch.allclose(mean[0, 0], (x[0, 0] + x[0, 2]) / 2)
    assert torch.equal(mean[1], torch.zeros(1, 4))
