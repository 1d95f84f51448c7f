"""The trained checkpoint, and the reference's videos of held-out prompts; made once for all tests that want them."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, Prompt, generate, held_out_prompts
from mochi_aot.tools.training.export import open_models
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.shipped import SHAPES

Reference = Callable[[int, int], np.ndarray]


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
