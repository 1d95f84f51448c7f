import json
from pathlib import Path

import pytest

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.genmo import DECODER, DIT, add_block, add_resnet, encoder_sources
from mochi_aot.compiler.checkpoint.genmo_config import read_dit_config, read_vae_config
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.table import decoder_sources, dit_sources
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig

DATA = Path(__file__).parents[2] / "data" / "checkpoints"


def published(name: str) -> dict[str, Shape]:
    return {key: tuple(shape) for key, shape in json.loads((DATA / f"{name}.json").read_text()).items()}


def test_the_published_shapes_give_the_published_configuration() -> None:
    assert read_dit_config(published("genmo_dit")) == DiTConfig()
    assert read_vae_config(published("genmo_decoder"), published("genmo_encoder")) == VAEConfig()


@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_are_recovered_from_shapes_alone(preset: str) -> None:
    config = PRESETS[preset]
    dit = {source.key: source.shape for source in dit_sources(DIT, config.dit, add_block)}
    decoder = {source.key: source.shape for source in decoder_sources(DECODER, config.vae, add_resnet)}
    encoder = {source.key: source.shape for source in encoder_sources(config.vae)}
    assert read_dit_config(dit) == config.dit
    assert read_vae_config(decoder, encoder) == config.vae


def test_decoder_and_encoder_may_differ() -> None:
    vae = VAEConfig(
        decoder_channels=(32, 96, 64, 128),
        decoder_res=(1, 4, 2, 3, 5),
        encoder_channels=(64, 32, 96, 160),
        encoder_res=(2, 1, 3, 1, 4),
        time_factors=(2, 1, 3),
        space_factors=(1, 2, 4),
        fourier_features=6,
    )
    decoder = {source.key: source.shape for source in decoder_sources(DECODER, vae, add_resnet)}
    encoder = {source.key: source.shape for source in encoder_sources(vae)}
    assert read_vae_config(decoder, encoder) == vae


@pytest.mark.parametrize(
    "key",
    ["pos_frequencies", "blocks.0.attn.proj_x.weight", "blocks.0.mlp_x.w2.weight", "t5_y_embedder.to_q.weight"],
)
def test_one_wrong_or_missing_tensor_does_not_change_the_sizes(key: str) -> None:
    shapes = published("genmo_dit")
    assert read_dit_config(shapes | {key: (7, 7, 7)}) == DiTConfig()
    del shapes[key]
    assert read_dit_config(shapes) == DiTConfig()


def test_an_empty_file_gives_the_published_transformer() -> None:
    assert read_dit_config({}) == DiTConfig()


def test_other_latent_channels_have_no_statistics() -> None:
    decoder = published("genmo_decoder") | {"blocks.0.0.weight": (768, 16, 1, 1, 1)}
    with pytest.raises(CheckpointError, match=r"16 latent channels.*those of Mochi are for 12"):
        read_vae_config(decoder, published("genmo_encoder"))
