"""Canonical names and shapes are those of the reference modules."""

import pytest
import torch

from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.reference.dit import AsymmDiT
from mochi_aot.compiler.reference.text import build_text_encoder
from mochi_aot.compiler.reference.vae_decoder import Decoder
from mochi_aot.compiler.reference.vae_encoder import Encoder


@pytest.mark.parametrize("preset", PRESETS)
def test_names_and_shapes_are_those_of_the_reference(preset: str) -> None:
    config = PRESETS[preset]
    with torch.device("meta"):
        modules = {
            "dit": AsymmDiT(config.dit),
            "decoder": Decoder(config.vae),
            "encoder": Encoder(config.vae),
            "text": build_text_encoder(config.text),
        }
    reference = {
        f"{prefix}.{name}": tuple(parameter.shape)
        for prefix, module in modules.items()
        for name, parameter in module.state_dict().items()
    }
    assert parameter_shapes(config) == reference
