"""Second stage: text encoder and transformer, by flow matching on latents."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import T5EncoderModel

from mochi_aot.compiler.reference.dit import AsymmDiT, patchify
from mochi_aot.compiler.reference.text import encode_text
from mochi_aot.runtime.defaults import DEFAULT_STEPS
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.training.loop import Fast, Losses, Pace, Stage, step_generator
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.picture import frame_sheet, write_png
from mochi_aot.tools.training.pool import LatentPool
from mochi_aot.tools.training.sampling import Sampler
from mochi_aot.tools.training.scenes import draw_clip
from mochi_aot.tools.training.settings import Settings

ON_SCHEDULE = 0.25  # of the noise levels are those of the sampler's schedule, the others are shifted to more noise
SHIFT = 2.0  # half of those are above SHIFT / (SHIFT + 1); where and what shapes are is decided there
SAMPLE_PROMPTS, SAMPLE_STEPS, SAMPLE_GUIDANCE = 12, 24, 4.0


def train_dit(models: Models, settings: Settings, folder: Path, pace: Pace, fast: Fast) -> Stage:
    """Train, or go on."""
    device = next(models.dit.parameters()).device
    stage = Stage("dit", folder, models.generator(), settings.dit)
    if stage.done or pace.late:
        return stage
    pool = LatentPool(models, settings, stage.step)
    loss = fast(flow_loss)

    def losses_of(step: int) -> Losses:
        return {
            "loss": loss_of_batch(
                models, settings, pool, step_generator(settings.seed, "dit", step, device), loss, step
            )
        }

    def sample(step: int) -> None:
        clips = [draw_clip(settings.seed, number, held_out=True) for number in range(SAMPLE_PROMPTS)]
        kept = stage.kept()
        sampler = Sampler(models.config, cast(T5EncoderModel, kept["text"]), kept["dit"], models.decoder)
        frames = sampler.videos([clip.words for clip in clips], range(SAMPLE_PROMPTS), SAMPLE_STEPS, SAMPLE_GUIDANCE)
        write_png(folder / f"dit-{step:06d}.png", frame_sheet(frames, 7))

    stage.run(losses_of, pace, sample)
    return stage


def loss_of_batch(
    models: Models,
    settings: Settings,
    pool: LatentPool,
    generator: torch.Generator,
    loss: Callable[..., Any],
    step: int,
) -> Tensor:
    """`flow_loss`, or `loss` compiled from it, of the clips, noise and captions that step `step` draws."""
    pool.renew(step)
    device = generator.device
    schedule = torch.from_numpy(linear_quadratic_sigmas(DEFAULT_STEPS)).to(device)
    clean, ids, mask = pool.draw(settings.dit.batch, generator)
    noise = torch.randn(clean.shape, generator=generator, device=device)
    sigma = draw_sigmas(schedule, settings.dit.batch, generator)
    kept = torch.rand(len(mask), generator=generator, device=device) >= settings.caption_dropout
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
        # A caption that is left out is one without any token to attend to, as an empty prompt is.
        caption = encode_text(models.text, ids, mask)
        value: Tensor = loss(models.dit, clean, noise, sigma, caption, mask & kept[:, None])
    return value


def flow_loss(dit: AsymmDiT, clean: Tensor, noise: Tensor, sigma: Tensor, caption: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the velocity from noise to video, which is what the sampler adds while sigma falls.

    clean, noise: float32 [B, C, T, h, w]; sigma: float32 [B], 1 is noise; caption: [B, L, width]; mask: bool [B, L].
    """
    level = sigma.reshape(-1, 1, 1, 1, 1)
    noisy = clean * (1.0 - level) + noise * level
    tokens = dit(noisy, (1.0 - sigma) * 1000.0, caption, mask).float()
    wanted = velocity_tokens(clean - noise, dit.config.patch)
    return (tokens - wanted).square().mean()


def velocity_tokens(velocity: Tensor, patch: int) -> Tensor:
    """Return a latent in the order of the transformer's output, whose channel is innermost: [B, N, p*p*C]"""
    tokens = patchify(velocity, patch)  # [B, N, C*p*p]
    return tokens.reshape(*tokens.shape[:-1], velocity.shape[1], -1).transpose(-1, -2).flatten(-2)


def draw_sigmas(schedule: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Noise levels: float32 [count], half of them along `schedule`, which is read between its steps too."""
    uniform, choice = torch.rand(2, count, generator=generator, device=schedule.device)
    place = uniform * (len(schedule) - 1)
    index = place.long().clamp(max=len(schedule) - 2)
    along = torch.lerp(schedule[index], schedule[index + 1], place - index)
    shifted = SHIFT * uniform / (1.0 + (SHIFT - 1.0) * uniform)
    return torch.where(choice < ON_SCHEDULE, along, shifted)
