"""First stage: encoder and decoder, on pixels."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.reference.config import VAEConfig
from mochi_aot.compiler.reference.vae import channel_constant
from mochi_aot.compiler.reference.vae_decoder import Decoder
from mochi_aot.compiler.reference.vae_encoder import Encoder
from mochi_aot.tools.training.loop import Fast, Losses, Pace, Stage, step_generator
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.picture import frame_sheet, write_png
from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.scenes import clip_arrays, draw_clip
from mochi_aot.tools.training.settings import Settings

LOG_VARIANCE = (-12.0, 4.0)
FIRST_LOG_VARIANCE = -4.0  # of the noise, beside that of the latents
SQUARES, EDGES, TINTS, SHIFT = 4.0, 0.5, 1.0, 0.02  # weights beside that of the mean absolute difference
SAMPLE_CLIPS, FIRST_CLIPS = 6, 32


def train_vae(models: Models, settings: Settings, folder: Path, pace: Pace, fast: Fast) -> Stage:
    """Train, or go on; the models then hold the averaged weights, with the published statistics of latents."""
    device = next(models.encoder.parameters()).device
    first = clip_batch(settings.seed, 0, FIRST_CLIPS, device)[:, :1].contiguous()
    whiten_latents(models, recoloured(first, step_generator(settings.seed, "vae", 0, device)))
    stage = Stage("vae", folder, models.vae(), settings.vae)
    loss = fast(vae_losses)

    def losses_of(step: int) -> Losses:
        frames = settings.vae_frames[step % len(settings.vae_frames)]
        video = clip_batch(settings.seed, step, settings.vae.batch, device)[:, :frames].contiguous()
        generator = step_generator(settings.seed, "vae", step, device)
        video = recoloured(video, generator)
        noise = latent_noise(models, video, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
            values = loss(models.encoder, models.decoder, models.config.vae, video, noise, settings.kl_weight)
        return dict(zip(("loss", "mse", "kl"), values, strict=True))

    def sample(step: int) -> None:
        kept = stage.kept()
        video = clip_batch(settings.seed, 0, SAMPLE_CLIPS, device, held_out=True)
        with torch.no_grad():
            again = kept["decoder"](kept["encoder"](video))
        pairs = torch.stack([video, again], dim=1).flatten(0, 1)
        write_png(folder / f"vae-{step:06d}.png", frame_sheet(to_bytes(pairs), 6))

    stage.run(losses_of, pace, sample)
    return stage


@torch.no_grad()
def whiten_latents(models: Models, video: Tensor) -> None:
    """Begin with latents that are the main components of what the encoder sees in `video`, at the published spread.

    So a colour, which varies little and in few pixels, is from the first step as loud as the light, and louder than the
    noise, whose variance begins at a fiftieth of the latents'. The encoder's last layer has no bias: the part of its
    mean input that varies least stands for one.
    """
    config, seen = models.config.vae, []
    hook = models.encoder.norm_out.register_forward_hook(lambda module, inputs, output: seen.append(output))
    models.encoder.moments(video)
    hook.remove()
    features = F.silu(seen[0].float()).flatten(0, -2)
    constant = features.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(features.T))  # rising
    rows = (vectors / values.clamp(min=1e-8).sqrt()).T.flip(0)[: config.latent_channels]
    quiet = vectors[:, : len(values) // 2]
    one = quiet @ (quiet.T @ constant)
    one /= one @ constant  # its product with the mean input is 1
    target_mean, target_std = (channel_constant(v, video.device) for v in (config.latents_mean, config.latents_std))
    means = rows * target_std[:, None]
    means += torch.outer(target_mean - means @ constant, one)
    variances = torch.outer(2.0 * target_std.log() + FIRST_LOG_VARIANCE, one)
    models.encoder.proj_out.weight.copy_(torch.cat([means, variances]))


def vae_losses(
    encoder: Encoder, decoder: Decoder, config: VAEConfig, video: Tensor, noise: Tensor, kl_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Difference of pixels and edges, and how far the latents are from the published statistics.

    video: float32 [B, F, H, W, 3]; noise: standard normal, of the latents' shape. Returns (loss, MSE in units of the
    range -1 to 1, divergence a latent number).
    """
    mean, log_variance = encoder.moments(video).float().chunk(2, dim=-1)
    log_variance = log_variance.clamp(*LOG_VARIANCE)
    again = decoder(mean + torch.exp(0.5 * log_variance) * noise).float()
    difference = again - video
    squares = difference.square().mean()
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    target_mean, target_std = (channel_constant(v, video.device) for v in (config.latents_mean, config.latents_std))
    ratio = torch.exp(log_variance) / target_std.square()
    divergence = 0.5 * (((mean - target_mean) / target_std).square() + ratio - 1.0 - ratio.log()).mean()
    tints = (difference - difference.mean(dim=-1, keepdim=True)).abs().mean()  # else colours come long after light
    batch_std, batch_mean = torch.std_mean(mean.flatten(0, -2), dim=0)
    shift = ((batch_mean - target_mean) / target_std).square().mean() + (batch_std / target_std).log().square().mean()
    pixels = difference.abs().mean() + SQUARES * squares + EDGES * edges + TINTS * tints
    loss = pixels + kl_weight * divergence + SHIFT * shift
    return loss, squares.detach(), divergence.detach()


def clip_batch(seed: int, number: int, count: int, device: torch.device, held_out: bool = False) -> Tensor:
    """Videos of `count` clips, batch `number` of them: float32 [count, F, H, W, 3]"""
    clips = [draw_clip(seed, index, held_out) for index in range(number * count, (number + 1) * count)]
    return render(clip_arrays(clips), device)


def recoloured(video: Tensor, generator: torch.Generator) -> Tensor:
    """Every second clip in other colours, its background too: each channel times a random number from -1 to 1.

    Where only a small shape has a colour, encoder and decoder learn to leave colours out long before they could learn
    to carry them, and stay there.
    """
    factors = torch.rand(len(video), 1, 1, 1, 3, generator=generator, device=video.device) * 2.0 - 1.0
    factors[1::2] = 1.0
    return video * factors


def latent_noise(models: Models, video: Tensor, generator: torch.Generator) -> Tensor:
    batch, frames, height, width, _ = video.shape
    shape = (batch, (frames - 1) // 6 + 1, height // 8, width // 8, models.config.vae.latent_channels)
    return torch.randn(shape, generator=generator, device=video.device)


def to_bytes(video: Tensor) -> np.ndarray:
    """Frames -1 to 1 as uint8."""
    frames: np.ndarray = ((video.float() * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
    return frames


@torch.no_grad()
def scale_latents(models: Models, mean: Tensor, std: Tensor) -> Tensor:
    """Give the latents the published standard deviations, by scaling the encoder's last and the decoder's first layer.

    mean, std: float32 [C], as measured. Returns the mean afterwards, in published standard deviations from the
    published mean: the encoder's last layer has no bias, so a mean stays where training has put it.
    """
    device = mean.device
    target_mean = torch.tensor(models.config.vae.latents_mean, device=device)
    target_std = torch.tensor(models.config.vae.latents_std, device=device)
    factor = target_std / std
    models.encoder.proj_out.weight[: len(factor)] *= factor[:, None]
    models.decoder.conv_in.weight /= factor
    return (mean * factor - target_mean) / target_std


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
