"""First stage: encoder and decoder. Both begin linear; training makes the decoder better than that."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.reference.vae_decoder import Decoder
from mochi_aot.tools.training.linear_vae import (
    LOG_VARIANCE,
    before_unfolding,
    begin_linear,
    encode_linear,
    fold,
    principal_components,
    trained_parts,
    unfolding,
)
from mochi_aot.tools.training.loop import Fast, Losses, Pace, Stage, step_generator
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.picture import frame_sheet, write_png
from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.scenes import clip_arrays, draw_clip
from mochi_aot.tools.training.settings import Settings

SQUARES = 4.0  # weight of the mean squared difference beside that of the mean absolute one
SAMPLE_CLIPS = 6


def train_vae(models: Models, settings: Settings, folder: Path, pace: Pace, fast: Fast) -> Stage:
    """Train, or go on. The encoder stays as it begins, so that latents are what they were from the first step on."""
    device = next(models.encoder.parameters()).device
    modules = models.vae().requires_grad_(False)
    for part in trained_parts(models.decoder):
        part.requires_grad_(True)
    if not (folder / "vae.pt").exists():
        _begin(models, settings)
    stage = Stage("vae", folder, modules, settings.vae)
    weight, bias = unfolding(models.decoder)
    noise_scale = torch.tensor(models.config.vae.latents_std, device=device) * torch.tensor(LOG_VARIANCE / 2).exp()
    loss = fast(vae_losses)

    def losses_of(step: int) -> Losses:
        frames = settings.vae_frames[step % len(settings.vae_frames)]
        video = clip_batch(settings.seed, step, settings.vae.batch, device)[:, :frames].contiguous()
        latents = encode_linear(models.encoder, video)
        generator = step_generator(settings.seed, "vae", step, device)
        latents = latents + noise_scale * torch.randn(latents.shape, generator=generator, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
            values = loss(models.decoder, weight, bias, latents, fold(video))
        return dict(zip(("loss", "mse"), values, strict=True))

    def sample(step: int) -> None:
        kept = stage.kept()
        video = clip_batch(settings.seed, 0, SAMPLE_CLIPS, device, held_out=True)
        with torch.no_grad():
            again = kept["decoder"](kept["encoder"](video))
        pairs = torch.stack([video, again], dim=1).flatten(0, 1)
        write_png(folder / f"vae-{step:06d}.png", frame_sheet(to_bytes(pairs), 7))

    stage.run(losses_of, pace, sample)
    return stage


def _begin(models: Models, settings: Settings) -> None:
    device = next(models.encoder.parameters()).device
    video = clip_batch(settings.seed, 0, settings.component_clips, device)
    components = principal_components(video, models.config.vae.latent_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        begin_linear(models.encoder, models.decoder, models.config.vae, components)


def vae_losses(
    decoder: Decoder, weight: Tensor, bias: Tensor, latents: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Difference of pixels; (loss, MSE in units of the range -1 to 1).

    weight, bias: of `unfolding`; latents: float32 [B, T, h, w, C]; wanted: a video, `fold`ed.
    """
    difference = F.linear(before_unfolding(decoder, latents), weight, bias).float() - wanted
    squares = difference.square().mean()
    return difference.abs().mean() + SQUARES * squares, squares.detach()


def clip_batch(seed: int, number: int, count: int, device: torch.device, held_out: bool = False) -> Tensor:
    """Videos of `count` clips, batch `number` of them: float32 [count, F, H, W, 3]"""
    clips = [draw_clip(seed, index, held_out) for index in range(number * count, (number + 1) * count)]
    return render(clip_arrays(clips), device)


def to_bytes(video: Tensor) -> np.ndarray:
    """Frames -1 to 1 as uint8."""
    frames: np.ndarray = ((video.float() * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
    return frames


@torch.no_grad()
def latent_statistics(models: Models, settings: Settings, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the clips that come first."""
    batch = min(settings.statistics_clips, 16)
    batches = [
        models.encoder(clip_batch(settings.seed, number, batch, device)).double().flatten(0, -2)
        for number in range(settings.statistics_clips // batch)
    ]
    std, mean = torch.std_mean(torch.cat(batches), dim=0)
    return mean.float(), std.float()
