"""Seeded weights under which an untrained network behaves: signals keep their size and every input has an effect.

Each parameter has its own generator, seeded from the seed and its canonical name, so that any one of them can be made
alone and is the same whatever layout, shard or order it is written in.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch

from mochi_aot.compiler.checkpoint.naming import Shape

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Draw = Callable[[np.random.Generator, Shape], Array]


@dataclass(frozen=True)
class Normal:
    """Independent normal values; `by_inputs` ones are scaled so that inputs of unit variance give outputs of variance
    deviation^2."""

    mean: float
    deviation: float
    by_inputs: bool = False

    def spread(self, shape: Shape) -> float:
        """Return the standard deviation of the values of a parameter of this shape."""
        return self.deviation / sqrt(prod(shape[1:])) if self.by_inputs else self.deviation

    def __call__(self, generator: np.random.Generator, shape: Shape) -> Array:
        """Draw the values, float32."""
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.spread(shape))
        values += np.float32(self.mean)
        return values


def seeded_parameter(name: str, shape: Shape, seed: int) -> torch.Tensor:
    """Return the parameter `name` in float32, the same on every machine."""
    generator = np.random.Generator(np.random.SFC64(seed_of(name, seed)))
    return torch.from_numpy(law_of(name)(generator, shape))


def seed_of(name: str, seed: int) -> int:
    """Return the parameter's own seed, of 256 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest(), "little")


def law_of(name: str) -> Draw:
    """Return what the parameter's values are drawn by: Normal, but for frequencies."""
    return next(draw for pattern, draw in _RULES if re.fullmatch(pattern, name))


def _frequencies(generator: np.random.Generator, shape: Shape) -> Array:
    """Return angles per position, of either sign, spread evenly in their logarithm over two decades.

    A frame's positions span about +-96, whatever its resolution, so wavelengths go from a dozen positions to all.
    """
    magnitude = 10.0 ** generator.uniform(-2.3, -0.3, shape)
    return (magnitude * generator.choice((-1.0, 1.0), shape)).astype(np.float32)


# The first pattern that matches a whole name counts.
_RULES: tuple[tuple[str, Draw], ...] = (
    (r"dit\.pos_frequencies", _frequencies),
    (r".*norm\w*\.weight", Normal(1.0, 0.1)),
    (r".*\.bias", Normal(0.0, 0.02)),
    (r".*\.mod_[xy]\..*", Normal(0.0, 0.5, by_inputs=True)),  # gates and scales of a few tenths
    (r"text\.shared\.weight", Normal(0.0, 1.0)),
    (r".*\.relative_attention_bias\.weight", Normal(0.0, 0.5)),
    (r".*\.SelfAttention\.q\.weight", Normal(0.0, 0.25, by_inputs=True)),  # T5 does not divide its logits by sqrt(d_kv)
    (r"decoder\.proj_out\.weight", Normal(0.0, 0.5, by_inputs=True)),  # most of a frame within [-1, 1]
    (r".*", Normal(0.0, 1.0, by_inputs=True)),
)
