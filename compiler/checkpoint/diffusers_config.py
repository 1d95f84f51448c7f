"""The config.json files of Diffusers' layout: read into a configuration, and written from one."""

from typing import Any

from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.naming import RGB
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

TRANSFORMER_CLASS, VAE_CLASS = "MochiTransformer3DModel", "AutoencoderKLMochi"


def swiglu_hidden(width: int) -> int:
    """Return the width of diffusers' SwiGLU over `width` channels: two thirds of four times that, rounded down."""
    return 8 * width // 3


def read_dit_config(config: JsonConfig) -> tuple[DiTConfig, int]:
    """Return the sizes of the DiT and the length of a prompt in tokens, from transformer/config.json.

    Raise CheckpointError.
    """
    default = DiTConfig()
    config.expect("_class_name", TRANSFORMER_CLASS)
    config.expect("activation_fn", "swiglu")
    config.expect("qk_norm", "rms_norm")
    heads = config.integer("num_attention_heads", default.heads)
    head_dim = config.integer("attention_head_dim", default.head_dim)
    text_width = config.integer("pooled_projection_dim", default.text_width)
    channels = config.integer("in_channels", default.in_channels)
    config.expect("out_channels", None, channels)
    dit = DiTConfig(
        layers=config.integer("num_layers", default.layers),
        heads=heads,
        head_dim=head_dim,
        text_width=text_width,
        caption_width=config.integer("text_embed_dim", default.caption_width),
        hidden=swiglu_hidden(heads * head_dim),
        text_hidden=swiglu_hidden(text_width),
        in_channels=channels,
        patch=config.integer("patch_size", default.patch),
        frequency_width=config.integer("time_embed_dim", default.frequency_width),
    )
    return dit, config.integer("max_sequence_length", 256)


def read_vae_config(config: JsonConfig, has_encoder: bool = True) -> VAEConfig:
    """Return the sizes of the VAE from vae/config.json; `has_encoder` says whether its weights have an encoder's.

    Raise CheckpointError.
    """
    default = VAEConfig()
    config.expect("_class_name", VAE_CLASS)
    config.expect("act_fn", "silu", "swish")
    config.expect("out_channels", RGB)
    config.expect("scaling_factor", 1.0)
    res = config.integers("layers_per_block", default.decoder_res)
    config.expect("add_attention_block", _attention(res))
    latent = config.integer("latent_channels", default.latent_channels)
    # Of the first diffusers with a Mochi, whose VAE had no encoder.
    decoder = config.integers("block_out_channels", default.decoder_channels)
    encoder = config.integers("encoder_block_out_channels", default.encoder_channels)
    return VAEConfig(
        latent_channels=latent,
        decoder_channels=config.integers("decoder_block_out_channels", decoder),
        decoder_res=res,
        encoder_channels=encoder if has_encoder else (),
        encoder_res=res if has_encoder else (),
        time_factors=config.integers("temporal_expansions", default.time_factors),
        space_factors=config.integers("spatial_expansions", default.space_factors),
        fourier_features=config.integer("in_channels", RGB + default.fourier_features) - RGB,
        latents_mean=config.numbers("latents_mean", default.latents_mean),
        latents_std=config.numbers("latents_std", default.latents_std),
    )


def dit_fields(config: DiTConfig, text_length: int) -> dict[str, Any]:
    """Return the fields of transformer/config.json; a prompt has `text_length` tokens."""
    return {
        "_class_name": TRANSFORMER_CLASS,
        "activation_fn": "swiglu",
        "attention_head_dim": config.head_dim,
        "in_channels": config.in_channels,
        "max_sequence_length": text_length,
        "num_attention_heads": config.heads,
        "num_layers": config.layers,
        "out_channels": None,
        "patch_size": config.patch,
        "pooled_projection_dim": config.text_width,
        "qk_norm": "rms_norm",
        "text_embed_dim": config.caption_width,
        "time_embed_dim": config.frequency_width,
    }


def vae_fields(config: VAEConfig) -> dict[str, Any]:
    """Return the fields of vae/config.json."""
    return {
        "_class_name": VAE_CLASS,
        "act_fn": "silu",
        "add_attention_block": _attention(config.decoder_res),
        "decoder_block_out_channels": list(config.decoder_channels),
        "encoder_block_out_channels": list(config.encoder_channels),
        "in_channels": RGB + config.fourier_features,
        "latent_channels": config.latent_channels,
        "latents_mean": list(config.latents_mean),
        "latents_std": list(config.latents_std),
        "layers_per_block": list(config.decoder_res),
        "out_channels": RGB,
        "scaling_factor": 1.0,
        "spatial_expansions": list(config.space_factors),
        "temporal_expansions": list(config.time_factors),
    }


def _attention(res: tuple[int, ...]) -> list[bool]:
    """Return which groups of the encoder's residual blocks have attention: all but the first."""
    return [False] + [True] * (len(res) - 1)
