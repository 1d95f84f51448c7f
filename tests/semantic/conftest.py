"""The trained checkpoint, and the reference's videos of held-out prompts; made once for all tests that want them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, Prompt, generate, held_out_prompts
from mochi_aot.tools.training.export import open_models
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.sampling import Sampler
from mochi_aot.tools.training.shipped import SHAPES

Reference = Callable[[int, int], np.ndarray]
LONGER = Geometry(64, 96, 25)  # than the clips of training
LONGER_STEPS, LONGER_SCALE, LONGER_NEGATIVE = 8, 4.5, "a light background"
LONGER_PROMPTS = slice(4, 6)  # of squares, which are seen clearly


@pytest.fixture(scope="session")
def trained() -> Models:
    """In float32."""
    return open_models(SHAPES, "cpu")


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Held out: combinations of colour, shape and motion that training never shows."""
    return held_out_prompts(32)


@pytest.fixture(scope="session")
def reference(trained: Models, prompts: list[Prompt]) -> Reference:
    """reference(count, steps): the reference's videos of the first prompts, uint8 [count, F, H, W, 3]."""
    return cache(lambda count, steps: generate(trained, prompts[:count], steps, GUIDANCE_SCALE))


@pytest.fixture(scope="session")
def longer(trained: Models, prompts: list[Prompt]) -> np.ndarray:
    """The reference's videos of LONGER_PROMPTS in another size, with all else that may be chosen at run time."""
    sampler = Sampler(trained.config, trained.text, trained.dit, trained.decoder)
    words, seeds = [p.words for p in prompts[LONGER_PROMPTS]], [p.seed for p in prompts[LONGER_PROMPTS]]
    return sampler.videos(words, seeds, LONGER_STEPS, LONGER_SCALE, LONGER, LONGER_NEGATIVE)
