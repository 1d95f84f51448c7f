"""The networks that are trained: their sizes, and how the transformer begins."""

import math
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import T5EncoderModel

from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig, VAEConfig
from mochi_aot.compiler.reference.dit import AsymmDiT
from mochi_aot.compiler.reference.text import build_text_encoder
from mochi_aot.compiler.reference.vae_decoder import Decoder
from mochi_aot.compiler.reference.vae_encoder import Encoder

# Widths are multiples of 96, on which Genmo and Diffusers agree about SwiGLU; heads of 64 go on chips, an even number
# of them on two rows of chips. The statistics of the latents are the published ones, as Genmo's layout has no place for
# others: the encoder begins with them. Its last channels are three for each group of a norm (linear_vae.py).
SMALL = MochiConfig(
    dit=DiTConfig(layers=2, heads=6, head_dim=64, text_width=96, caption_width=128, hidden=1024, text_hidden=256),
    vae=VAEConfig(
        decoder_channels=(32, 32, 96, 96),
        decoder_res=(1, 1, 1, 1, 1),
        encoder_channels=(32, 32, 64, 96),
        encoder_res=(1, 1, 1, 1, 1),
    ),
    text=TextConfig(vocab_size=256, d_model=128, d_kv=32, num_heads=4, num_layers=2, d_ff=256),
)
# For tests: the smallest that has every part.
TINIEST = MochiConfig(
    dit=DiTConfig(layers=2, heads=2, head_dim=48, text_width=96, caption_width=32, hidden=256, text_hidden=256),
    vae=VAEConfig(
        decoder_channels=(32, 32, 32, 32),
        decoder_res=(1, 1, 1, 1, 1),
        encoder_channels=(32, 32, 32, 96),
        encoder_res=(1, 1, 1, 1, 1),
    ),
    text=TextConfig(vocab_size=256, d_model=32, d_kv=16, num_heads=2, num_layers=1, d_ff=32),
)
CONFIGS = {"small": SMALL, "tiniest": TINIEST}


@dataclass(frozen=True)
class Models:
    """The four networks, float32."""

    config: MochiConfig
    encoder: Encoder
    decoder: Decoder
    text: T5EncoderModel
    dit: AsymmDiT

    def vae(self) -> nn.ModuleDict:
        """Return what the first stage trains."""
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})

    def generator(self) -> nn.ModuleDict:
        """Return what the second stage trains."""
        return nn.ModuleDict({"text": self.text, "dit": self.dit})

    def parameters(self) -> dict[str, Tensor]:
        """Canonical name -> parameter of all networks."""
        parts = (self.vae().state_dict(), self.generator().state_dict())
        return dict(chain.from_iterable(part.items() for part in parts))

    def load(self, parameters: dict[str, Tensor]) -> None:
        """Copy parameters by their canonical names; those not named stay."""
        for name, own in self.parameters().items():
            if name in parameters:
                own.copy_(parameters[name])


def build_models(config: MochiConfig, seed: int, device: torch.device) -> Models:
    """Untrained networks on `device`; one seed gives the same weights on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = Models(
            config,
            Encoder(config.vae),
            Decoder(config.vae),
            build_text_encoder(config.text),
            AsymmDiT(config.dit),
        )
        _begin_dit(models.dit)
    for module in (models.vae(), models.generator()):
        module.to(device)
    return models


@torch.no_grad()
def _begin_dit(dit: AsymmDiT) -> None:
    """Blocks that add little, a velocity of zero, and turns of a fraction of a circle from a token to the next."""
    for name, parameter in dit.named_parameters():
        if ".mod_" in name or name.startswith(("final.scale", "final.shift")):
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.02)
    nn.init.zeros_(dit.final.proj.weight)
    nn.init.zeros_(dit.final.proj.bias)
    time, space = dit.pos_frequencies[0], dit.pos_frequencies[1:]
    time.uniform_(math.log(0.1), math.log(2.0)).exp_()
    space.uniform_(math.log(0.001), math.log(0.05)).exp_()  # positions in space are some forty apart
    dit.pos_frequencies.mul_(torch.randint(0, 2, dit.pos_frequencies.shape) * 2 - 1)
