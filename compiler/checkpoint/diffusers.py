"""Diffusers' layout: model_index.json, and transformer/, vae/, text_encoder/, tokenizer/, scheduler/ below it.

Every component has a config.json. q, k and v lie apart, the two halves of a SwiGLU are stacked, gate last.
"""

from dataclasses import replace

from mochi_aot.compiler.checkpoint.naming import (
    Shapes,
    encoder_shapes,
    modulations,
)
from mochi_aot.compiler.checkpoint.table import DecoderNames, DiTNames, Source, Table, decoder_sources
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

TRANSFORMER, VAE = "transformer", "vae"
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
WEIGHTS = "diffusion_pytorch_model"  # stem of the weight files of transformer/ and vae/
PIPELINE = "MochiPipeline"  # what model_index.json says
_PROJ_OUT, _FORMER_PROJ_OUT = "decoder.proj_out", "decoder.conv_out"


def _decoder_resnet(stage: int, stages: int, index: int) -> str:
    block = {0: "block_in", stages - 1: "block_out"}.get(stage, f"up_blocks.{stage - 1}")
    return f"decoder.{block}.resnets.{index}"


DECODER = DecoderNames(
    component=VAE,
    conv_in="decoder.conv_in",
    resnet=_decoder_resnet,
    proj=lambda stage: f"decoder.up_blocks.{stage - 1}.proj",
    proj_out=_PROJ_OUT,
)


def vae_sources(config: VAEConfig) -> list[Source]:
    """Return the tensors of vae/, decoder and encoder, if there is one."""
    encoder = _encoder_sources(config, encoder_shapes(config)) if config.has_encoder else []
    return [*encoder, *map(_with_former_key, decoder_sources(DECODER, config, _add_resnet))]


def _with_former_key(source: Source) -> Source:
    """Return a tensor of the decoder that is also found under the key that the first diffusers with a Mochi had."""
    part = source.key.removeprefix(f"{_PROJ_OUT}.")
    return source if part == source.key else replace(source, alias=f"{_FORMER_PROJ_OUT}.{part}")


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


def add_block(table: Table, config: DiTConfig, block: int) -> None:
    """Add the tensors of one of the transformer's blocks."""
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
