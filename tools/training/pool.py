"""Latents to train on: a ring of encoded clips that is renewed chunk by chunk while training goes on."""

from collections.abc import Callable

import torch
from torch import Tensor

from mochi_aot.compiler.reference.vae import channel_constant
from mochi_aot.tools.training.captions import LENGTH, encode_captions
from mochi_aot.tools.training.linear_vae import encode_linear
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.scenes import Clip, clip_arrays, draw_clip
from mochi_aot.tools.training.settings import Settings


class LatentPool:
    """The newest chunks of the endless row of clips, encoded. What it holds follows from the step alone."""

    def __init__(
        self, models: Models, settings: Settings, step: int, draw: Callable[[int], Clip] | None = None
    ) -> None:
        """Encode all chunks that the pool holds at `step`. `draw`: makes clips by number, those of the seed if None."""
        self._clip = draw or (lambda number: draw_clip(settings.seed, number))
        self.models, self.settings = models, settings
        self.device = next(models.encoder.parameters()).device
        size = settings.pool_chunks * settings.chunk
        self.ids = torch.zeros(size, LENGTH, dtype=torch.int32, device=self.device)
        self.mask = torch.zeros(size, LENGTH, dtype=torch.bool, device=self.device)
        self.latents: Tensor | None = None
        first = -(-step // settings.refresh_every)
        for chunk in range(first, first + settings.pool_chunks):
            self._encode(chunk)

    def renew(self, step: int) -> None:
        """Exchange the oldest chunk where it is due at `step`."""
        if step % self.settings.refresh_every == 0:
            self._encode(step // self.settings.refresh_every + self.settings.pool_chunks)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, normalised, float32 [count, C, T, h, w]; token ids and mask [count, LENGTH]."""
        assert self.latents is not None
        chosen = torch.randint(len(self.latents), (count,), generator=generator, device=self.device)
        return self.latents[chosen].float(), self.ids[chosen], self.mask[chosen]

    @torch.no_grad()
    def _encode(self, chunk: int) -> None:
        count = self.settings.chunk
        clips = [self._clip(chunk * count + index) for index in range(count)]
        video = render(clip_arrays(clips), self.device)
        latents = normalised(self.models, encode_linear(self.models.encoder, video))
        if self.latents is None:
            size = self.settings.pool_chunks * count
            self.latents = latents.new_empty(size, *latents.shape[1:])
        first = chunk % self.settings.pool_chunks * count
        here = slice(first, first + count)
        ids, mask = encode_captions([clip.words for clip in clips])
        self.latents[here] = latents
        self.ids[here] = torch.from_numpy(ids).to(self.device)
        self.mask[here] = torch.from_numpy(mask).to(self.device)


def normalised(models: Models, latents: Tensor) -> Tensor:
    """Return the encoder's output as the sampler sees it: [B, T, h, w, C] -> [B, C, T, h, w]"""
    vae = models.config.vae
    mean, std = (channel_constant(values, latents.device) for values in (vae.latents_mean, vae.latents_std))
    return ((latents - mean) / std).permute(0, 4, 1, 2, 3)
