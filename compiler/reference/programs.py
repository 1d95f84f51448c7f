"""The modules that are traced: one for each thing a host does with the model.

Batch is 1. Parameters have the canonical names: `dit.`, `decoder.`, `encoder.`, `text.` and the module's own.
`example_inputs` gives, by name and in order, inputs of the right shapes and dtypes, all zero.
"""

import torch
from torch import Tensor, nn

from mochi_aot.compiler.reference import ops
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.dit import AsymmDiT, unpatchify
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.text import build_text_encoder, encode_text
from mochi_aot.compiler.reference.vae import channel_constant
from mochi_aot.compiler.reference.vae_decoder import Decoder
from mochi_aot.compiler.reference.vae_encoder import Encoder


class EncodeText(nn.Module):
    """Token ids to prompt embeddings, computed in `dtype` and rounded to `out_dtype`, which is `dtype` unless given."""

    def __init__(
        self, config: MochiConfig, dtype: torch.dtype = torch.float32, out_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.config, self.out_dtype = config, out_dtype or dtype
        self.text = build_text_encoder(config.text, dtype)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [1, L, caption_width] for input_ids: int32 [1, L] and attention_mask: bool [1, L]."""
        return encode_text(self.text, input_ids, attention_mask).to(self.out_dtype)

    def example_inputs(self) -> dict[str, Tensor]:
        length = self.config.text_length
        return {
            "input_ids": torch.zeros(1, length, dtype=torch.int32),
            "attention_mask": torch.zeros(1, length, dtype=torch.bool),
        }


class DenoiseStep(nn.Module):
    """One guided Euler step from sigma to next_sigma."""

    def __init__(self, config: MochiConfig, geometry: Geometry, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.latent_size = config, geometry.latent_size(config)
        self.dit = AsymmDiT(config.dit, dtype)

    def forward(
        self,
        latents: Tensor,
        sigma: Tensor,
        next_sigma: Tensor,
        guidance_scale: Tensor,
        prompt_embeds: Tensor,
        prompt_attention_mask: Tensor,
        negative_prompt_embeds: Tensor,
        negative_prompt_attention_mask: Tensor,
    ) -> Tensor:
        """Return z + (sigma - next_sigma) * v in float32, v = v_negative + guidance_scale * (v_prompt - v_negative).

        latents: float32 [1, C, T, h, w]; sigma, next_sigma, guidance_scale: float32 [1], sigma from 1 (noise) to 0;
        prompts: [1, L, caption_width]; masks: bool [1, L]. Return the next latents.
        """
        caption = torch.cat([negative_prompt_embeds, prompt_embeds])
        caption_mask = torch.cat([negative_prompt_attention_mask, prompt_attention_mask])
        timestep = (sigma - 1.0) * -1000.0  # the model's time runs from 0 (noise) to 1000
        tokens = self.dit(latents, timestep, caption, caption_mask).float()
        negative, positive = tokens.chunk(2)
        guided = negative + guidance_scale * (positive - negative)
        velocity = unpatchify(guided, self.latent_size, self.config.dit.patch)
        return latents + (sigma - next_sigma) * velocity

    def example_inputs(self) -> dict[str, Tensor]:
        length, dit = self.config.text_length, self.config.dit
        embeds = torch.zeros(1, length, dit.caption_width, dtype=self.dit.dtype)
        mask = torch.zeros(1, length, dtype=torch.bool)
        return {
            "latents": torch.zeros(1, dit.in_channels, *self.latent_size),
            "sigma": torch.zeros(1),
            "next_sigma": torch.zeros(1),
            "guidance_scale": torch.zeros(1),
            "prompt_embeds": embeds,
            "prompt_attention_mask": mask,
            "negative_prompt_embeds": embeds.clone(),
            "negative_prompt_attention_mask": mask.clone(),
        }


class DecoderUnit(nn.Module):
    """Latents, as the sampler sees them, to what the decoder makes of them."""

    def __init__(self, config: MochiConfig, geometry: Geometry, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype, self.latent_size = config.vae, dtype, geometry.latent_size(config)
        self.decoder = Decoder(config.vae, dtype)

    def video(self, latents: Tensor) -> Tensor:
        """Return [1, F, H, W, 3], about -1 to 1, for latents: float32 [1, C, T, h, w]."""
        mean, std = channel_constant(self.config.latents_mean), channel_constant(self.config.latents_std)
        z = latents.permute(0, 2, 3, 4, 1) * std + mean
        video: Tensor = self.decoder(ops.annotate(z.to(self.dtype), "latent_video"))
        return video

    def example_inputs(self) -> dict[str, Tensor]:
        return {"latents": torch.zeros(1, self.config.latent_channels, *self.latent_size)}


class Decode(DecoderUnit):
    """Latents to frames."""

    def forward(self, latents: Tensor) -> Tensor:
        """Return uint8 [F, H, W, 3] for latents: float32 [1, C, T, h, w]."""
        return as_bytes(self.video(latents))


class CheckedDecode(DecoderUnit):
    """Latents to frames, and to whether these mean anything: as a byte, what is not a number looks like black."""

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return what Decode does, and how many elements of the video are not finite, float32 [1, 1]."""
        video = self.video(latents)
        return as_bytes(video), ops.count_nonfinite(video)


def as_bytes(video: Tensor) -> Tensor:
    """Turn [1, F, H, W, 3], -1 to 1, into uint8 [F, H, W, 3]."""
    unit = (video.float().squeeze(0) * 0.5 + 0.5).clamp(0.0, 1.0)
    return (unit * 255.0).round().to(torch.uint8)


class EncodeVideo(nn.Module):
    """Frames to latents, as the sampler sees them: the mean of the posterior, normalised."""

    def __init__(self, config: MochiConfig, geometry: Geometry, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        geometry.latent_size(config)  # refuses a size that does not divide
        self.config, self.geometry = config.vae, geometry
        self.encoder = Encoder(config.vae, dtype)

    def forward(self, frames: Tensor) -> Tensor:
        """Return float32 [1, C, T, h, w] for frames: uint8 [F, H, W, 3]."""
        mean, std = channel_constant(self.config.latents_mean), channel_constant(self.config.latents_std)
        video = ops.annotate(frames.float().unsqueeze(0) / 127.5 - 1.0, "pixel_video")
        latents = (self.encoder(video).float() - mean) / std
        return latents.permute(0, 4, 1, 2, 3)

    def example_inputs(self) -> dict[str, Tensor]:
        size = self.geometry
        return {"frames": torch.zeros(size.frames, size.height, size.width, 3, dtype=torch.uint8)}
