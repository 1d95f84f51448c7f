"""Videos from captions, many at once, as the compiled model makes them: same noise, schedule and guidance."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from transformers import T5EncoderModel

from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.dit import unpatchify
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.text import encode_text
from mochi_aot.compiler.reference.vae import channel_constant
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.training.captions import encode_captions
from mochi_aot.tools.training.scenes import HEIGHT, WIDTH

GEOMETRY = Geometry(HEIGHT, WIDTH, 19)


class Sampler:
    """The reference in float32, on the device of its weights."""

    def __init__(self, config: MochiConfig, text: T5EncoderModel, dit: nn.Module, decoder: nn.Module) -> None:
        self.config, self.text, self.dit, self.decoder = config, text, dit, decoder
        self.device = next(dit.parameters()).device

    @torch.no_grad()
    def videos(
        self,
        captions: Sequence[str],
        seeds: Iterable[int],
        steps: int,
        guidance_scale: float,
        geometry: Geometry = GEOMETRY,
        negative: str = "",
    ) -> np.ndarray:
        """Frames uint8 [n, F, H, W, 3], one video a caption and seed."""
        size = geometry.latent_size(self.config)
        shape = (1, self.config.dit.in_channels, *size)
        latents = torch.from_numpy(np.concatenate([seeded_latents(seed, shape) for seed in seeds])).to(self.device)
        positive, negatives = self._encode(captions), self._encode([negative] * len(captions))
        for sigma, following in pairwise(linear_quadratic_sigmas(steps).tolist()):
            velocity = self._velocity(latents, sigma, *positive)
            other = self._velocity(latents, sigma, *negatives)
            velocity = other + guidance_scale * (velocity - other)
            latents = latents + (sigma - following) * unpatchify(velocity, size, self.config.dit.patch)
        return np.concatenate([self._decode(latent[None]) for latent in latents])

    def _encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, mask = (torch.from_numpy(array).to(self.device) for array in encode_captions(captions))
        return encode_text(self.text, ids, mask), mask

    def _velocity(self, latents: Tensor, sigma: float, caption: Tensor, mask: Tensor) -> Tensor:
        timestep = latents.new_full((len(latents),), (1.0 - sigma) * 1000.0)
        velocity: Tensor = self.dit(latents, timestep, caption, mask)
        return velocity.float()

    def _decode(self, latents: Tensor) -> np.ndarray:
        vae = self.config.vae
        mean, std = (channel_constant(values, self.device) for values in (vae.latents_mean, vae.latents_std))
        video = self.decoder(latents.permute(0, 2, 3, 4, 1) * std + mean)
        unit = (video.float() * 0.5 + 0.5).clamp(0.0, 1.0)
        frames: np.ndarray = (unit * 255.0).round().to(torch.uint8).cpu().numpy()
        return frames
