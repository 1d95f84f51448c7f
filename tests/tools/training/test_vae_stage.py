"""The first stage's parts, by numbers."""

import math

import pytest
import torch

from mochi_aot.tools.training.differentiable import differentiable_ops
from mochi_aot.tools.training.models import SMALL, TINIEST, build_models
from mochi_aot.tools.training.settings import Settings
from mochi_aot.tools.training.vae_stage import (
    clip_batch,
    latent_statistics,
    recoloured,
    vae_losses,
    whiten_latents,
)

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_second_clip_is_recoloured() -> None:
    video = torch.rand(6, 2, 4, 5, 3, generator=seeded(0)) * 2 - 1
    changed = recoloured(video, seeded(1))
    assert torch.equal(changed[1::2], video[1::2])
    factors = (changed / video)[0::2]
    assert factors.abs().max() <= 1.0001
    assert torch.allclose(factors, factors[:, :1, :1, :1].expand_as(factors), atol=1e-4)
    assert factors[:, 0, 0, 0].std(dim=-1).min() > 0.01  # the channels differ
    assert torch.equal(changed, recoloured(video, seeded(1)))


def test_a_perfect_decoder_has_only_the_latents_losses() -> None:
    models = build_models(TINIEST, 0, CPU)
    video = torch.zeros(2, 1, 16, 16, 3)

    class Black(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(2, 1, 16, 16, 3)

    class Constant(torch.nn.Module):
        """The published mean, and a variance e^2 times too large."""

        def moments(self, x: torch.Tensor) -> torch.Tensor:
            mean, std = torch.tensor(TINIEST.vae.latents_mean), torch.tensor(TINIEST.vae.latents_std)
            spread = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1)
            moved = mean + spread * std * math.sqrt(0.5)  # of two values, so that their standard deviation is std
            return torch.cat([moved, (2 * std.log() + 2).expand(2, 1, 1, 1, 12)], dim=-1)

    loss, squares, divergence = vae_losses(
        Constant(), Black(), models.config.vae, video, torch.zeros(2, 1, 1, 1, 12), kl_weight=1.0
    )
    assert squares == 0
    # Half of (squared distance 0.5, plus e^2, less 1, less 2).
    assert divergence.item() == pytest.approx(0.5 * (0.5 + math.e**2 - 3), rel=1e-5)
    assert loss.item() == pytest.approx(divergence.item(), rel=1e-5)


def test_statistics_are_those_of_the_first_clips() -> None:
    models = build_models(TINIEST, 0, CPU)
    with differentiable_ops(), torch.no_grad():
        mean, std = latent_statistics(models, Settings(statistics_clips=1), CPU)
    assert mean.shape == std.shape == (12,) and std.min() > 0


@torch.no_grad()
def test_latents_begin_with_the_published_statistics() -> None:
    models = build_models(SMALL, 0, CPU)
    video = recoloured(clip_batch(3, 0, 8, CPU)[:, :1].contiguous(), seeded(0))
    whiten_latents(models, video)
    mean, log_variance = models.encoder.moments(video).flatten(0, -2).chunk(2, dim=-1)
    target_mean, target_std = (torch.tensor(v) for v in (SMALL.vae.latents_mean, SMALL.vae.latents_std))
    # The input that stands for the bias is only nearly constant.
    assert torch.allclose(mean.mean(dim=0), target_mean, atol=0.05)
    assert torch.allclose(mean.std(dim=0), target_std, rtol=0.35)
    assert torch.allclose(log_variance.mean(dim=0), 2 * target_std.log() - 4, atol=0.05)
    assert torch.corrcoef(mean[:, :4].T).triu(1).abs().max() < 0.5
