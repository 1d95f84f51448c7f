"""Half a guided step, as hosts run it that call the transformer once for each of the two prompts."""

import torch
from torch import Tensor, nn

from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.dit import AsymmDiT, unpatchify
from mochi_aot.compiler.reference.geometry import Geometry


class OnePrompt(nn.Module):
    """Velocity of a noisy latent under one prompt; guidance and the Euler update are the host's."""

    def __init__(self, config: MochiConfig, geometry: Geometry, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.latent_size = config, geometry.latent_size(config)
        self.dit = AsymmDiT(config.dit, dtype)

    def forward(self, latents: Tensor, sigma: Tensor, prompt_embeds: Tensor, prompt_attention_mask: Tensor) -> Tensor:
        """Return the velocity, float32 [1, C, T, h, w].

        latents: float32 [1, C, T, h, w]; sigma: float32 [1]; prompt_embeds: [1, L, caption_width];
        prompt_attention_mask: bool [1, L].
        """
        timestep = (sigma - 1.0) * -1000.0  # the model's time runs from 0 (noise) to 1000
        tokens = self.dit(latents, timestep, prompt_embeds, prompt_attention_mask).float()
        return unpatchify(tokens, self.latent_size, self.config.dit.patch)

    def example_inputs(self) -> dict[str, Tensor]:
        """Return inputs of the shapes and dtypes that `forward` takes."""
        length, dit = self.config.text_length, self.config.dit
        return {
            "latents": torch.zeros(1, dit.in_channels, *self.latent_size),
            "sigma": torch.zeros(1),
            "prompt_embeds": torch.zeros(1, length, dit.caption_width, dtype=self.dit.dtype),
            "prompt_attention_mask": torch.zeros(1, length, dtype=torch.bool),
        }
