from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderKLMochi, MochiTransformer3DModel

from mochi_aot.compiler.checkpoint.diffusers_config import dit_fields, read_dit_config, read_vae_config, vae_fields
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.presets import PRESETS, TINY
from mochi_aot.compiler.reference.config import DiTConfig, VAEConfig


def _config(fields: dict[str, Any]) -> JsonConfig:
    return JsonConfig(Path("x/config.json"), fields)


@pytest.mark.parametrize("preset", PRESETS)
def test_fields_are_read_as_they_were_written(preset: str) -> None:
    config = PRESETS[preset]
    assert read_dit_config(_config(dit_fields(config.dit, 77))) == (config.dit, 77)
    assert read_vae_config(_config(vae_fields(config.vae))) == config.vae


def test_absent_fields_have_the_published_values_as_in_diffusers() -> None:
    assert read_dit_config(_config({})) == (DiTConfig(), 256)
    assert read_vae_config(_config({})) == VAEConfig()


def test_every_field_is_one_that_diffusers_knows() -> None:
    known = {"_class_name", *MochiTransformer3DModel.__init__.__annotations__}
    assert dit_fields(TINY.dit, 256).keys() <= known
    known = {"_class_name", *AutoencoderKLMochi.__init__.__annotations__}
    assert vae_fields(TINY.vae).keys() <= known


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "FluxTransformer2DModel"}, r'_class_name is "FluxTransformer2DModel", Mochi has "Mochi'),
        ({"activation_fn": "gelu"}, r'activation_fn is "gelu", Mochi has "swiglu"'),
        ({"qk_norm": "layer_norm"}, "qk_norm"),
        ({"out_channels": 6}, "out_channels is 6, Mochi has null or 12"),
        ({"num_layers": "48"}, r'num_layers is "48", expected a positive integer'),
        ({"num_layers": 0}, "num_layers is 0, expected a positive integer"),
        ({"num_layers": True}, "num_layers is true, expected a positive integer"),
        ({"num_layers": None}, "has no num_layers"),
    ],
)
def test_a_transformer_that_is_not_mochis(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"x/config\.json.*" + message):
        read_dit_config(_config(fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "_class_name"),
        ({"act_fn": "relu"}, "act_fn"),
        ({"scaling_factor": 1.15}, r"scaling_factor is 1\.15, Mochi has 1\.0"),
        ({"add_attention_block": [True] * 5}, "add_attention_block"),
        ({"layers_per_block": 3}, "layers_per_block is 3, expected a list of positive integers"),
        ({"latents_mean": ["0"]}, "latents_mean"),
    ],
)
def test_a_vae_that_is_not_mochis(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_vae_config(_config(fields))
