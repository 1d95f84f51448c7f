"""The VAE against diffusers on the same random weights; diffusers' decoder is corrected, see tests/genmo_decoder.py."""

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor

from mochi_aot.compiler.reference.geometry import Geometry, GeometryError
from mochi_aot.compiler.reference.programs import Decode, EncodeVideo

TOLERANCE = 1e-5  # as in test_dit: the order of float32 sums


@pytest.fixture
def decode(config, geometry, vae_weights):
    program = Decode(config, geometry)
    program.load_state_dict({name: w for name, w in vae_weights.items() if name.startswith("decoder.")})
    return program


@pytest.fixture
def encode(config, geometry, vae_weights):
    program = EncodeVideo(config, geometry)
    program.load_state_dict({name: w for name, w in vae_weights.items() if name.startswith("encoder.")})
    return program


def statistics(config):
    mean = torch.tensor(config.vae.latents_mean).reshape(1, -1, 1, 1, 1)
    return mean, torch.tensor(config.vae.latents_std).reshape(1, -1, 1, 1, 1)


@pytest.mark.parametrize("frames", [1, 7, 13, 19])
def test_decoder_equals_corrected_diffusers(config, decode, diffusers_vae, relative_error, frames):
    latents = torch.randn(1, config.vae.latent_channels, (frames - 1) // 6 + 1, 6, 10)
    expected = diffusers_vae.decode(latents).sample
    actual = decode.decoder(latents.movedim(1, -1)).movedim(-1, 1)
    assert actual.shape == (1, 3, frames, 48, 80)
    assert relative_error(actual, expected) < TOLERANCE


def test_decoded_frames_equal_those_diffusers_would_write(config, decode, diffusers_vae):
    latents = torch.randn(1, config.vae.latent_channels, 3, 6, 10)
    mean, std = statistics(config)
    video = diffusers_vae.decode(latents * std + mean).sample
    expected = np.stack([np.asarray(image) for image in VideoProcessor(8).postprocess_video(video, "pil")[0]])
    actual = decode(latents).numpy()
    assert actual.dtype == np.uint8 and actual.shape == (13, 48, 80, 3)
    assert len(np.unique(expected)) > 200  # otherwise the comparison would say little
    off = actual.astype(int) - expected
    # a difference of 1e-6 tips the rounding of very few values, and by no more than one
    assert np.abs(off).max() <= 1 and np.count_nonzero(off) <= off.size // 1000


@pytest.mark.parametrize("frames", [1, 13])
def test_encoder_equals_diffusers(config, encode, diffusers_vae, relative_error, frames):
    pixels = torch.randint(0, 256, (frames, 48, 80, 3), dtype=torch.uint8)
    mean, std = statistics(config)
    video = pixels.float() / 127.5 - 1.0
    expected = (diffusers_vae.encode(video.permute(3, 0, 1, 2)[None]).latent_dist.mode() - mean) / std
    actual = encode(pixels)
    assert actual.shape == (1, config.vae.latent_channels, (frames - 1) // 6 + 1, 6, 10)
    assert relative_error(actual, expected) < TOLERANCE


def test_both_directions_are_causal(config, decode, encode):
    pixels = torch.randint(0, 256, (13, 48, 80, 3), dtype=torch.uint8)
    changed = pixels.clone()
    changed[7:] = 255 - changed[7:]
    torch.testing.assert_close(encode(changed)[:, :, :2], encode(pixels)[:, :, :2])
    latents = torch.randn(1, config.vae.latent_channels, 3, 6, 10)
    other = torch.cat([latents[:, :, :2], -latents[:, :, 2:]], dim=2)
    assert torch.equal(decode(other)[:7], decode(latents)[:7])


def test_bfloat16_follows_float32(config, geometry, decode, encode, vae_weights):
    half = Decode(config, geometry, torch.bfloat16), EncodeVideo(config, geometry, torch.bfloat16)
    for program in half:
        program.load_state_dict({name: vae_weights[name] for name in program.state_dict()})
    latents = torch.randn(1, config.vae.latent_channels, 3, 6, 10)
    pixels = torch.randint(0, 256, (13, 48, 80, 3), dtype=torch.uint8)
    for actual, expected in ((half[0](latents), decode(latents)), (half[1](pixels), encode(pixels))):
        pair = torch.stack([actual.float().flatten(), expected.float().flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.999


def test_programs_refuse_a_size_that_does_not_divide(config):
    with pytest.raises(GeometryError, match="48x84x13: width 84"):
        EncodeVideo(config, Geometry(48, 84, 13))
