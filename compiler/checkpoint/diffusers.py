"""Diffusers' layout: model_index.json, and transformer/, vae/, text_encoder/, tokenizer/, scheduler/ below it.

Every component has a config.json. q, k and v lie apart, the two halves of a SwiGLU are stacked, gate last.
"""

from mochi_aot.compiler.checkpoint.naming import (
    Shapes,
    decoder_shapes,
    dit_shapes,
    encoder_shapes,
    modulations,
)
from mochi_aot.compiler.checkpoint.table import DiTNames, Source, Table, dit_table
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

TRANSFORMER, VAE = "transformer", "vae"
WEIGHTS = "diffusion_pytorch_model"  # stem of the weight files of both
PIPELINE = "MochiPipeline"  # what model_index.json says
DIT = DiTNames(
    component=TRANSFORMER,
    patch_embed="patch_embed.proj",
    time_embed=("time_embed.timestep_embedder.linear_1", "time_embed.timestep_embedder.linear_2"),
    caption_pool="time_embed.pooler",
    caption_proj="time_embed.caption_proj",
    modulation="norm_out.linear",
    modulation_parts=("dit.final.scale", "dit.final.shift"),
    final_proj="proj_out",
)


def dit_sources(config: DiTConfig) -> list[Source]:
    """Return the tensors of transformer/."""
    return dit_table(DIT, config, dit_shapes(config), _add_block)


def vae_sources(config: VAEConfig) -> list[Source]:
    """Return the tensors of vae/, encoder and decoder."""
    return _encoder_sources(config, encoder_shapes(config)) + _decoder_sources(config, decoder_shapes(config))


def _encoder_sources(config: VAEConfig, shapes: Shapes) -> list[Source]:
    table = Table(VAE, shapes)
    res = config.encoder_res
    table.module("encoder.proj_in", "encoder.proj_in")
    for index in range(res[0]):
        _add_resnet(table, f"encoder.block_in.resnets.{index}", f"encoder.block_in.{index}")
    for stage in range(len(res) - 2):
        key, name = f"encoder.down_blocks.{stage}", f"encoder.down.{stage}"
        table.module(f"{key}.conv_in.conv", f"{name}.conv")
        for index in range(res[stage + 1]):
            _add_resnet(table, f"{key}.resnets.{index}", f"{name}.res.{index}")
            _add_attention(table, key, index, f"{name}.attn.{index}")
    for index in range(res[-1]):
        _add_resnet(table, f"encoder.block_out.resnets.{index}", f"encoder.block_out.res.{index}")
        _add_attention(table, "encoder.block_out", index, f"encoder.block_out.attn.{index}")
    table.module("encoder.norm_out.norm_layer", "encoder.norm_out")
    table.module("encoder.proj_out", "encoder.proj_out")
    return table.sources


def _decoder_sources(config: VAEConfig, shapes: Shapes) -> list[Source]:
    table = Table(VAE, shapes)
    res = config.decoder_res[::-1]
    table.module("decoder.conv_in", "decoder.conv_in", tail=(config.latent_channels, 1, 1, 1))
    for index in range(res[0]):
        _add_resnet(table, f"decoder.block_in.resnets.{index}", f"decoder.block_in.{index}")
    for stage in range(len(res) - 2):
        for index in range(res[stage + 1]):
            _add_resnet(table, f"decoder.up_blocks.{stage}.resnets.{index}", f"decoder.up.{stage}.res.{index}")
        table.module(f"decoder.up_blocks.{stage}.proj", f"decoder.up.{stage}.proj")
    for index in range(res[-1]):
        _add_resnet(table, f"decoder.block_out.resnets.{index}", f"decoder.block_out.{index}")
    table.module("decoder.proj_out", "decoder.proj_out")
    return table.sources


def _add_block(table: Table, config: DiTConfig, block: int) -> None:
    key, name = f"transformer_blocks.{block}", f"dit.blocks.{block}"
    last = block == config.layers - 1
    for stream, norm in (("x", "norm1.linear"), ("y", "norm1_context.linear_1" if last else "norm1_context.linear")):
        mods = modulations(block, config.layers, stream)
        table.module(f"{key}.{norm}", *(f"{name}.mod_{stream}.{mod}" for mod in mods))
    for part in "qkv":
        table.module(f"{key}.attn1.to_{part}", f"{name}.attn.{part}_x")
        table.module(f"{key}.attn1.add_{part}_proj", f"{name}.attn.{part}_y")
    for part in "qk":
        table.module(f"{key}.attn1.norm_{part}", f"{name}.attn.{part}_norm_x")
        table.module(f"{key}.attn1.norm_added_{part}", f"{name}.attn.{part}_norm_y")
    table.module(f"{key}.attn1.to_out.0", f"{name}.attn.proj_x")
    _add_swiglu(table, f"{key}.ff", f"{name}.mlp_x")
    if not last:
        table.module(f"{key}.attn1.to_add_out", f"{name}.attn.proj_y")
        _add_swiglu(table, f"{key}.ff_context", f"{name}.mlp_y")


def _add_swiglu(table: Table, key: str, name: str) -> None:
    table.module(f"{key}.net.0.proj", f"{name}.up", f"{name}.gate")
    table.module(f"{key}.net.2", f"{name}.down")


def _add_resnet(table: Table, key: str, name: str) -> None:
    for half in "12":
        table.module(f"{key}.norm{half}.norm_layer", f"{name}.norm{half}")
        table.module(f"{key}.conv{half}.conv", f"{name}.conv{half}")


def _add_attention(table: Table, key: str, index: int, name: str) -> None:
    table.module(f"{key}.norms.{index}.norm_layer", f"{name}.norm")
    for part in "qkv":
        table.module(f"{key}.attentions.{index}.to_{part}", f"{name}.{part}")
    table.module(f"{key}.attentions.{index}.to_out.0", f"{name}.out")
