"""Sizes that two networks, or two fields, must agree on."""

from pathlib import Path

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.reference.config import MochiConfig

CAPTION_POOL_HEADS = 8  # of the attention that pools the caption, whatever the size


def check_sizes(config: MochiConfig, root: Path) -> None:
    """Raise CheckpointError naming the first sizes of the checkpoint in `root` that do not go together."""
    dit, vae, text = config.dit, config.vae, config.text
    stages = len(vae.decoder_channels) - 1
    lengths = {
        "decoder residual blocks": (len(vae.decoder_res), stages + 2),
        "time factors": (len(vae.time_factors), stages),
        "space factors": (len(vae.space_factors), stages),
        "latent means": (len(vae.latents_mean), vae.latent_channels),
        "latent standard deviations": (len(vae.latents_std), vae.latent_channels),
    }
    if vae.has_encoder:
        lengths["encoder channels"] = (len(vae.encoder_channels), stages + 1)
        lengths["encoder residual blocks"] = (len(vae.encoder_res), stages + 2)
    for what, (seen, expected) in lengths.items():
        if seen != expected:
            raise CheckpointError(f"{root}: the VAE has {seen} {what}, expected {expected} for {stages} decoder stages")
    if text.d_model != dit.caption_width:
        raise CheckpointError(
            f"{root}: the text encoder is {text.d_model} wide, the transformer reads captions {dit.caption_width} wide"
        )
    if vae.latent_channels != dit.in_channels:
        raise CheckpointError(
            f"{root}: the VAE has {vae.latent_channels} latent channels, but the transformer reads {dit.in_channels}"
        )
    if dit.caption_width % CAPTION_POOL_HEADS:
        raise CheckpointError(
            f"{root}: captions are {dit.caption_width} wide, which {CAPTION_POOL_HEADS} pooling heads do not divide"
        )
