"""A model small enough to interpret on many devices: its configuration, weights, programs and inputs."""

from functools import cache

import numpy as np
import torch

from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.ir.program import Checkpoint, Param, Program
from mochi_aot.compiler.programs import STEP_CAPACITY, build_programs
from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig, TextConfig, VAEConfig
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler import numbers

CONFIG = MochiConfig(
    dit=DiTConfig(
        layers=2,
        heads=8,
        head_dim=4,
        text_width=24,
        caption_width=16,
        hidden=48,
        text_hidden=40,
        in_channels=4,
        frequency_width=16,
    ),
    vae=VAEConfig(
        latent_channels=4,
        decoder_channels=(4, 6, 8, 8),
        decoder_res=(1, 1, 1, 1, 1),
        encoder_channels=(4, 6, 8, 8),
        encoder_res=(1, 1, 1, 1, 1),
        groups=2,
        attention_head_dim=2,
        latents_mean=(-0.1, 0.2, 0.0, 0.3),
        latents_std=(0.9, 1.1, 1.0, 1.3),
    ),
    text=TextConfig(vocab_size=50, d_model=16, d_kv=4, num_heads=8, num_layers=2, d_ff=24),
    text_length=10,
)
GEOMETRY = Geometry(height=32, width=48, frames=13)  # 3 latent frames of 4x6: 18 tokens
SHAPES = parameter_shapes(CONFIG)


class Weights:
    """The model's seeded weights, as `build_programs` and the lowering read a checkpoint."""

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        return weight(name)[index]


@cache
def weight(name: str) -> torch.Tensor:
    return seeded_parameter(name, SHAPES[name], seed=0)


def parameter(param: Param) -> np.ndarray:
    """The array of a checkpoint parameter, as the interpreter asks for it."""
    assert isinstance(param.recipe, Checkpoint)
    return np.asarray(weight(param.recipe.name).numpy())


@cache
def programs(geometry: Geometry = GEOMETRY, dtype: str = "float32") -> dict[str, Program]:
    """The programs by role, for one device."""
    return build_programs(CONFIG, geometry, dtype, Weights())


def inputs(program: Program, seed: int = 0) -> numbers.Arrays:
    """Random inputs of a program: masks have 3 tokens, ids are in the vocabulary, a step is a row of the tables."""
    return numbers.inputs(program, seed, ids=min(CONFIG.text.vocab_size, STEP_CAPACITY))
