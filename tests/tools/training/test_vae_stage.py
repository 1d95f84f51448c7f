"""The first stage's parts, by numbers."""

import pytest
import torch

from mochi_aot.tools.training.differentiable import differentiable_ops
from mochi_aot.tools.training.models import TINIEST, build_models
from mochi_aot.tools.training.settings import Settings
from mochi_aot.tools.training.vae_stage import clip_batch, latent_statistics, vae_losses

CPU = torch.device("cpu")


def test_losses_are_those_of_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mochi_aot.tools.training.vae_stage.before_unfolding", lambda decoder, latents: latents)
    weight, bias = torch.eye(3) * 2.0, torch.tensor([0.5, 0.0, 0.0])
    latents = torch.tensor([[1.0, 0.0, 0.0]])
    wanted = torch.tensor([[1.5, 0.0, -1.0]])  # differences 1, 0 and 1
    loss, squares = vae_losses(torch.nn.Identity(), weight, bias, latents, wanted)
    assert squares.item() == pytest.approx(2 / 3)
    assert loss.item() == pytest.approx(2 / 3 + 4.0 * 2 / 3)


def test_statistics_are_those_of_the_first_clips() -> None:
    models = build_models(TINIEST, 0, CPU)
    with differentiable_ops(), torch.no_grad():
        mean, std = latent_statistics(models, Settings(statistics_clips=1), CPU)
        latents = models.encoder(clip_batch(0, 0, 1, CPU)).flatten(0, -2)
    assert torch.allclose(mean, latents.mean(dim=0), atol=1e-5)
    assert torch.allclose(std, latents.std(dim=0), atol=1e-5)
