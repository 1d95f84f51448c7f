"""The flow that is trained is the one that the sampler follows."""

import numpy as np
import torch
from torch import Tensor, nn

from mochi_aot.compiler.reference.config import DiTConfig
from mochi_aot.compiler.reference.dit import unpatchify
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.programs import DenoiseStep
from mochi_aot.compiler.reference.sample import sample
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.training.dit_stage import draw_sigmas, flow_loss, velocity_tokens
from mochi_aot.tools.training.models import TINIEST

SIZE = (2, 4, 6)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Perfect(nn.Module):
    """Knows the video, and therefore the velocity at any latent and time."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.config, self.clean = DiTConfig(), clean

    def forward(self, latents: Tensor, timestep: Tensor, caption: Tensor, mask: Tensor) -> Tensor:
        sigma = (1.0 - timestep / 1000.0).reshape(-1, 1, 1, 1, 1)
        noise = (latents - (1.0 - sigma) * self.clean) / sigma
        return velocity_tokens(self.clean - noise, 2).expand(len(caption), -1, -1)


def test_velocity_tokens_are_what_unpatchify_reads() -> None:
    velocity = random(3, 12, *SIZE, seed=0)
    assert torch.equal(unpatchify(velocity_tokens(velocity, 2), SIZE, 2), velocity)


def test_the_true_velocity_has_no_loss() -> None:
    clean, noise = random(4, 12, *SIZE, seed=1), random(4, 12, *SIZE, seed=2)
    sigma = torch.tensor([0.05, 0.4, 0.9, 1.0])
    nothing = torch.zeros(4, 1, 8), torch.zeros(4, 1, dtype=torch.bool)
    assert flow_loss(Perfect(clean), clean, noise, sigma, *nothing) < 1e-6
    other = flow_loss(Perfect(-clean), clean, noise, sigma, *nothing)
    assert other > 1.0


def test_the_sampler_ends_at_the_video() -> None:
    clean = random(1, 12, *SIZE, seed=3)
    step = DenoiseStep(TINIEST, Geometry(32, 48, 7))
    step.dit = Perfect(clean)
    nothing = {"prompt_embeds": torch.zeros(1, 1, 8), "prompt_attention_mask": torch.zeros(1, 1, dtype=torch.bool)}
    prompts = {f"{sign}{name}": value for sign in ("", "negative_") for name, value in nothing.items()}
    sigmas = torch.from_numpy(linear_quadratic_sigmas(8))
    got = sample(step, random(1, 12, *SIZE, seed=4), sigmas, 4.5, prompts)
    assert (got - clean).abs().max() < 1e-4  # float32, over eight steps


def test_a_quarter_of_the_noise_levels_are_the_schedules() -> None:
    schedule = torch.from_numpy(linear_quadratic_sigmas(64))
    drawn = draw_sigmas(schedule, 40_000, torch.Generator().manual_seed(0)).numpy()
    assert drawn.min() >= 0.0 and drawn.max() <= 1.0
    # Half of the schedule's levels lie above 0.975; of the shifted ones, 2 u / (1 + u), those with u above 0.9512.
    assert abs(np.mean(drawn > 0.975) - (0.25 * 0.5 + 0.75 * 0.0488)) < 0.01
    along = np.interp(np.linspace(0, 64, 9999), np.arange(65), schedule)
    assert abs(np.mean(drawn < 0.5) - (np.mean(along < 0.5) + 3 / 3) / 4) < 0.01  # u below a third
