"""Genmo's layout: dit.safetensors, decoder.safetensors and encoder.safetensors in one folder, without any config.

q, k and v are stacked on dim 0, and so are the two halves of a SwiGLU, gate first.
"""

from mochi_aot.compiler.checkpoint.naming import (
    encoder_shapes,
    modulations,
)
from mochi_aot.compiler.checkpoint.table import DecoderNames, DiTNames, Source, Table
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

COMPONENTS = ("dit", "decoder", "encoder")  # each is the file <component>.safetensors
DIT = DiTNames(
    component="dit",
    patch_embed="x_embedder.proj",
    time_embed=("t_embedder.mlp.0", "t_embedder.mlp.2"),
    caption_pool="t5_y_embedder",
    caption_proj="t5_yproj",
    modulation="final_layer.mod",
    modulation_parts=("dit.final.shift", "dit.final.scale"),
    final_proj="final_layer.linear",
)


def _decoder_resnet(stage: int, stages: int, index: int) -> str:
    if stage == 0:
        return f"blocks.0.{index + 1}"  # behind conv_in
    return f"blocks.{stage}.{index}" if stage == stages - 1 else f"blocks.{stage}.blocks.{index}"


DECODER = DecoderNames(
    component="decoder",
    conv_in="blocks.0.0",
    resnet=_decoder_resnet,
    proj=lambda stage: f"blocks.{stage}.proj",
    proj_out="output_proj",
)


def encoder_sources(config: VAEConfig) -> list[Source]:
    """Return the tensors of encoder.safetensors: layers are proj_in, block_in's blocks, the stages, block_out's
    blocks."""
    table = Table("encoder", encoder_shapes(config))
    res = config.encoder_res
    table.module("layers.0", "encoder.proj_in")
    for index in range(res[0]):
        add_resnet(table, f"layers.{1 + index}", f"encoder.block_in.{index}")
    first = 1 + res[0]
    for stage in range(len(res) - 2):
        key, name = f"layers.{first + stage}.layers", f"encoder.down.{stage}"
        table.module(f"{key}.0", f"{name}.conv")
        for index in range(res[stage + 1]):
            add_resnet(table, f"{key}.{1 + index}", f"{name}.res.{index}")
            _add_attention(table, f"{key}.{1 + index}", f"{name}.attn.{index}")
    first += len(res) - 2
    for index in range(res[-1]):
        add_resnet(table, f"layers.{first + index}", f"encoder.block_out.res.{index}")
        _add_attention(table, f"layers.{first + index}", f"encoder.block_out.attn.{index}")
    table.module("output_norm", "encoder.norm_out")
    table.module("output_proj", "encoder.proj_out")
    return table.sources


def add_block(table: Table, config: DiTConfig, block: int) -> None:
    """Add the tensors of one of the transformer's blocks."""
    key, name = f"blocks.{block}", f"dit.blocks.{block}"
    last = block == config.layers - 1
    for stream in "xy":
        mods = modulations(block, config.layers, stream)
        table.module(f"{key}.mod_{stream}", *(f"{name}.mod_{stream}.{mod}" for mod in mods))
        table.module(f"{key}.attn.qkv_{stream}", *(f"{name}.attn.{part}_{stream}" for part in "qkv"))
        for part in "qk":
            table.module(f"{key}.attn.{part}_norm_{stream}", f"{name}.attn.{part}_norm_{stream}")
    for stream in "x" if last else "xy":
        table.module(f"{key}.attn.proj_{stream}", f"{name}.attn.proj_{stream}")
        table.module(f"{key}.mlp_{stream}.w1", f"{name}.mlp_{stream}.gate", f"{name}.mlp_{stream}.up")
        table.module(f"{key}.mlp_{stream}.w2", f"{name}.mlp_{stream}.down")


def add_resnet(table: Table, key: str, name: str) -> None:
    """Add the tensors of a residual block of the VAE."""
    for position, module in ((0, "norm1"), (2, "conv1"), (3, "norm2"), (5, "conv2")):
        table.module(f"{key}.stack.{position}", f"{name}.{module}")


def _add_attention(table: Table, key: str, name: str) -> None:
    table.module(f"{key}.attn_block.norm", f"{name}.norm")
    table.module(f"{key}.attn_block.attn.qkv", f"{name}.q", f"{name}.k", f"{name}.v")
    table.module(f"{key}.attn_block.attn.out", f"{name}.out")
