"""The tables against the key lists of the published checkpoints, made by instantiating the original modules."""

import json
from collections import Counter
from math import prod
from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.layouts import LAYOUTS, layout_sources
from mochi_aot.compiler.checkpoint.naming import Shape, parameter_shapes
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.table import Source, entries
from mochi_aot.compiler.reference.config import MochiConfig

DATA = Path(__file__).parents[2] / "data" / "checkpoints"
FILES = {
    "genmo": {
        "dit": "genmo_dit",
        "decoder": "genmo_decoder",
        "encoder": "genmo_encoder",
        "text_encoder": "t5_xxl_encoder",
    },
    "diffusers": {
        "transformer": "diffusers_transformer",
        "vae": "diffusers_vae",
        "text_encoder": "t5_xxl_encoder",
    },
}
FORMER = (
    "decoder.conv_out.weight",
    "decoder.conv_out.bias",
)  # of the VAE that had no encoder, before the published one
DIT_PARAMETERS, DECODER_PARAMETERS, ENCODER_PARAMETERS = 10_027_677_744, 362_526_595, 97_222_016  # as published


def published(layout: str) -> dict[tuple[str, str], Shape]:
    return {
        (component, key): tuple(shape)
        for component, name in FILES[layout].items()
        for key, shape in json.loads((DATA / f"{name}.json").read_text()).items()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tables_have_exactly_the_published_keys_and_shapes(layout: str) -> None:
    table = {}
    for source in layout_sources(layout, MochiConfig()):
        for key in {source.key, source.alias} - {None, *FORMER}:
            table[source.component, key] = source.shape
    assert table == published(layout)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_of_every_tensor_is_taken_exactly_once(layout: str, preset: str) -> None:
    config = PRESETS[preset]
    sources = layout_sources(layout, config)
    shapes = parameter_shapes(config)
    rows: dict[Source, list[tuple[int, int]]] = {source: [] for source in sources}
    for name, entry in entries(sources, shapes).items():
        rows[entry.source].append((entry.start, entry.stop))
        row = prod(entry.source.shape[1:])
        assert (entry.stop - entry.start) * row == prod(shapes[name]), name
    for source, taken in rows.items():
        edges = [0, *(stop for _, stop in sorted(taken))]
        assert [start for start, _ in sorted(taken)] == edges[:-1], source.key
        assert edges[-1] == source.shape[0], source.key


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_add_up_to_the_published_counts(layout: str) -> None:
    shapes = parameter_shapes(MochiConfig())
    counts: Counter[str] = Counter()
    for source in layout_sources(layout, MochiConfig()):
        for part in source.parts:
            counts[part.partition(".")[0]] += prod(shapes[part])
        assert prod(source.shape) == sum(prod(shapes[part]) for part in source.parts)
    assert counts["dit"] == DIT_PARAMETERS
    assert counts["decoder"] == DECODER_PARAMETERS
    assert counts["encoder"] == ENCODER_PARAMETERS


def test_both_layouts_hold_the_same_parameters() -> None:
    parts = [{part for source in layout_sources(layout, MochiConfig()) for part in source.parts} for layout in LAYOUTS]
    assert parts[0] == parts[1] == parameter_shapes(MochiConfig()).keys()


@pytest.mark.parametrize(
    ("layout", "key", "parts"),
    [
        ("genmo", "blocks.3.attn.qkv_y.weight", ("attn.q_y", "attn.k_y", "attn.v_y")),
        ("genmo", "blocks.3.mlp_x.w1.weight", ("mlp_x.gate", "mlp_x.up")),
        ("genmo", "blocks.3.mod_x.bias", ("mod_x.scale_msa", "mod_x.gate_msa", "mod_x.scale_mlp", "mod_x.gate_mlp")),
        ("genmo", "final_layer.mod.weight", ("final.shift", "final.scale")),
        ("diffusers", "transformer_blocks.3.attn1.add_k_proj.weight", ("attn.k_y",)),
        ("diffusers", "transformer_blocks.3.ff.net.0.proj.weight", ("mlp_x.up", "mlp_x.gate")),
        ("diffusers", "norm_out.linear.bias", ("final.scale", "final.shift")),
        ("diffusers", "transformer_blocks.47.norm1_context.linear_1.weight", ("mod_y.scale_msa",)),
    ],
)
def test_order_of_stacked_parameters(layout: str, key: str, parts: tuple[str, ...]) -> None:
    source = next(source for source in layout_sources(layout, MochiConfig()) if source.key == key)
    block = "dit." if "final" in parts[0] else f"dit.blocks.{key.split('.')[1]}."
    suffix = key.rpartition(".")[2]
    assert source.parts == tuple(f"{block}{part}.{suffix}" for part in parts)
