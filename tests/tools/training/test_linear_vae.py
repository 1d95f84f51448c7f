"""The VAE that training begins with makes of clips what their principal components make of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.tools.training.differentiable import differentiable_ops
from mochi_aot.tools.training.linear_vae import (
    LOG_VARIANCE,
    Components,
    before_unfolding,
    begin_linear,
    encode_linear,
    fold,
    principal_components,
    trained_parts,
    unfolding,
)
from mochi_aot.tools.training.models import SMALL, TINIEST, Models, build_models
from mochi_aot.tools.training.settings import TrainingError
from mochi_aot.tools.training.vae_stage import clip_batch

CPU = torch.device("cpu")
# As many channels at each level as its patch has numbers, so that nothing is left out: the exact case.
WHOLE = replace(
    SMALL,
    vae=replace(SMALL.vae, encoder_channels=(32, 32, 96, 96), decoder_channels=(32, 32, 96, 96)),
)


@pytest.fixture(scope="module")
def video() -> Tensor:
    return clip_batch(1, 0, 24, CPU)


@pytest.fixture(scope="module")
def components(video: Tensor) -> Components:
    return principal_components(video, 12)


@pytest.fixture(scope="module")
def models(components: Components) -> Models:
    models = build_models(WHOLE, 0, CPU)
    begin_linear(models.encoder, models.decoder, WHOLE.vae, components)
    return models


def patches(video: Tensor) -> np.ndarray:
    """By loops: float64 [n, T, h, w, 1152], pixels in the order of frame, row, column, colour."""
    frames = np.concatenate([video[:, :1].repeat(1, 5, 1, 1, 1), video], axis=1).astype(np.float64)
    count, length, height, width, _ = frames.shape
    out = np.empty((count, length // 6, height // 8, width // 8, 1152))
    for t, y, x in np.ndindex(out.shape[1:4]):
        piece = frames[:, 6 * t : 6 * t + 6, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        out[:, t, y, x] = piece.reshape(count, -1)
    return out


def test_components_are_principal(video: Tensor, components: Components) -> None:
    rows = patches(video).reshape(-1, 1152)
    centred = rows - rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(components.mean.numpy(), rows.mean(axis=0), atol=1e-5)
    # float32 covariances; components of nearly the same size may turn into each other
    assert np.allclose(components.std.numpy(), sizes[:12] / np.sqrt(len(rows) - 1), rtol=1e-3)
    assert np.allclose(components.vectors.numpy().T @ components.vectors.numpy(), np.eye(12), atol=1e-4)
    assert abs(axes[0] @ components.vectors[:, 0].numpy()) > 0.9999


@torch.no_grad()
def test_the_encoder_gives_the_components(models: Models, video: Tensor, components: Components) -> None:
    mean, log_variance = models.encoder.moments(video[:4]).chunk(2, dim=-1)
    target_mean, target_std = (torch.tensor(v) for v in (SMALL.vae.latents_mean, SMALL.vae.latents_std))
    got = ((mean - target_mean) / target_std).numpy()
    wanted = (patches(video[:4]) - components.mean.numpy()) @ components.vectors.numpy() / components.std.numpy()
    # The norm divides by the frame's scale, which components of a mean square m change by the factor
    # sqrt((2 m + 85 1/3 * 2) / (2 + 85 1/3 * 2)): by 5 % where m is 10. The silu adds a few hundredths.
    assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.9995
    assert torch.allclose(log_variance, 2 * target_std.log() + LOG_VARIANCE, atol=1e-4)


@torch.no_grad()
def test_the_decoder_makes_patches_of_components(models: Models, components: Components) -> None:
    whitened = torch.randn(2, 4, 3, 5, 12, generator=torch.Generator().manual_seed(0))
    target_mean, target_std = (torch.tensor(v) for v in (SMALL.vae.latents_mean, SMALL.vae.latents_std))
    got = models.decoder(whitened * target_std + target_mean)
    assert got.shape == (2, 19, 24, 40, 3)
    wanted = whitened @ (components.vectors * components.std).T + components.mean
    video = wanted.reshape(2, 4, 3, 5, 6, 8, 8, 3).permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(2, 24, 24, 40, 3)[:, 5:]
    assert (got - video).abs().max() < 1e-3 * video.abs().max()  # float32 through a dozen products


@torch.no_grad()
def test_reconstruction_is_good_from_the_start(models: Models) -> None:
    video = clip_batch(5, 0, 8, CPU, held_out=True)
    squares = ((models.decoder(models.encoder(video)) - video) / 2).square().mean(dim=(1, 2, 3, 4))
    assert (-10 * squares.log10()).mean() > 27.0  # of so few clips; 28 dB by the components of 256


@torch.no_grad()
def test_the_short_way_through_the_encoder(models: Models, video: Tensor) -> None:
    for frames in (1, 7):
        seen = video[:2, :frames]
        assert (encode_linear(models.encoder, seen) - models.encoder(seen)).abs().max() < 1e-4


@torch.no_grad()
def test_the_short_way_through_the_decoder(models: Models) -> None:
    for name, parameter in models.decoder.named_parameters():
        if name.startswith(("block_in", "up.0.res", "up.1.res")):  # as if trained
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    latents = torch.randn(1, 3, 4, 6, 12, generator=torch.Generator().manual_seed(2))
    weight, bias = unfolding(models.decoder)
    short = F.linear(before_unfolding(models.decoder, latents), weight, bias)
    video = models.decoder(latents)
    assert torch.allclose(short[:, 1:], fold(video)[:, 1:], atol=1e-4 * float(video.abs().max()))
    assert torch.allclose(short[:, 0, :, :, 48:], fold(video)[:, 0, :, :, 48:], atol=1e-4 * float(video.abs().max()))


def test_the_trained_parts_are_all_that_the_short_way_calls(models: Models) -> None:
    models.decoder.zero_grad()
    with differentiable_ops():
        before_unfolding(models.decoder, torch.randn(1, 2, 2, 2, 12)).square().sum().backward()
    reached = {name for name, parameter in models.decoder.named_parameters() if parameter.grad is not None}
    trained = {id(p) for part in trained_parts(models.decoder) for p in part.parameters()}
    assert reached == {name for name, parameter in models.decoder.named_parameters() if id(parameter) in trained}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"encoder_channels": (32, 32, 64, 64)}, "encoder channels"),
        ({"encoder_channels": (32, 32, 64, 128)}, "last channels are 128, not 96"),
        ({"time_factors": (1, 2, 2)}, "merges 1, 2 and 3 frames"),
    ],
)
def test_sizes_that_do_not_fit(components: Components, change: dict[str, tuple[int, ...]], message: str) -> None:
    config = replace(TINIEST, vae=replace(TINIEST.vae, **change))
    models = build_models(config, 0, CPU)
    with pytest.raises(TrainingError, match=message):
        begin_linear(models.encoder, models.decoder, config.vae, components)
