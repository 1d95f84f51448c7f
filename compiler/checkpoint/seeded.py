"""Seeded weights under which an untrained network behaves: signals keep their size and every input has an effect.

Each parameter has its own generator, seeded from the seed and its canonical name, so that any one of them can be made
alone and is the same whatever layout, shard or order it is written in.
"""

import hashlib
import re
from collections.abc import Callable
from math import prod, sqrt

import numpy as np
import torch

from mochi_aot.compiler.checkpoint.naming import Shape

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Draw = Callable[[np.random.Generator, Shape], Array]


def seeded_parameter(name: str, shape: Shape, seed: int) -> torch.Tensor:
    """Return the parameter `name` in float32, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))
    draw = next(draw for pattern, draw in _RULES if re.fullmatch(pattern, name))
    return torch.from_numpy(draw(generator, shape))


def _normal(mean: float, deviation: float) -> Draw:
    """Return independent normal values."""

    def draw(generator: np.random.Generator, shape: Shape) -> Array:
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= np.float32(deviation)
        values += np.float32(mean)
        return values

    return draw


def _fan_in(gain: float) -> Draw:
    """Return normal values scaled so that inputs of unit variance give outputs of variance gain^2."""

    def draw(generator: np.random.Generator, shape: Shape) -> Array:
        return _normal(0.0, gain / sqrt(prod(shape[1:])))(generator, shape)

    return draw


def _frequencies(generator: np.random.Generator, shape: Shape) -> Array:
    """Return angles per position, of either sign, spread evenly in their logarithm over two decades.

    A frame's positions span about +-96, whatever its resolution, so wavelengths go from a dozen positions to all.
    """
    magnitude = 10.0 ** generator.uniform(-2.3, -0.3, shape)
    return (magnitude * generator.choice((-1.0, 1.0), shape)).astype(np.float32)


# The first pattern that matches a whole name counts.
_RULES: tuple[tuple[str, Draw], ...] = (
    (r"dit\.pos_frequencies", _frequencies),
    (r".*norm\w*\.weight", _normal(1.0, 0.1)),
    (r".*\.bias", _normal(0.0, 0.02)),
    (r".*\.mod_[xy]\..*", _fan_in(0.5)),  # gates and scales of a few tenths
    (r"text\.shared\.weight", _normal(0.0, 1.0)),
    (r".*\.relative_attention_bias\.weight", _normal(0.0, 0.5)),
    (r".*\.SelfAttention\.q\.weight", _fan_in(0.25)),  # T5 does not divide its logits by sqrt(d_kv)
    (r"decoder\.proj_out\.weight", _fan_in(0.5)),  # most of a frame within [-1, 1]
    (r".*", _fan_in(1.0)),
)
