"""Lowered for ttnn and run by ttnn's golden functions, the trained model shows what the reference shows."""

import numpy as np
import pytest

from mochi_aot.tools.benchmarks.similarity import squared_error, to_decibels
from mochi_aot.tools.training.evaluate import Prompt
from mochi_aot.tools.training.semantics import observe
from tests.semantic.chips import ChipModel
from tests.semantic.conftest import LONGER, LONGER_NEGATIVE, LONGER_SCALE, LONGER_STEPS

pytestmark = pytest.mark.slow
COUNT, STEPS = 4, 12


# bfloat16 as in test_paths.py. bfloat8_b keeps 7 bits of the matrices and of what chips send: twice the error, 6 dB.
@pytest.mark.parametrize(
    ("mesh", "weights", "links", "least"),
    [((1, 2), "bfloat16", "bfloat16", 40.0), ((2, 4), "bfloat8_b", "bfloat8_b", 34.0)],
    ids=["1x2-bfloat16", "2x4-bfloat8_b"],
)
def test_meshes_and_dtypes(reference, prompts: list[Prompt], mesh, weights, links, least) -> None:
    model = ChipModel(mesh, weights, links)
    for prompt, wanted in zip(prompts[:COUNT], reference(COUNT, STEPS), strict=True):
        frames = model.video(prompt.words, prompt.seed, STEPS)
        decibels = to_decibels(squared_error(frames, wanted))
        assert decibels is not None and decibels >= least, prompt
        assert observe(frames) == observe(wanted), prompt


def test_another_size_scale_and_negative_prompt(longer: np.ndarray, prompts: list[Prompt]) -> None:
    """bfloat8_b of weights and links, as above."""
    model = ChipModel((1, 2), "bfloat8_b", "bfloat8_b", LONGER)
    for prompt, wanted in zip(prompts[:2], longer, strict=True):
        frames = model.video(prompt.words, prompt.seed, LONGER_STEPS, LONGER_SCALE, LONGER_NEGATIVE)
        decibels = to_decibels(squared_error(frames, wanted))
        assert decibels is not None and decibels >= 34.0, prompt
        assert observe(frames) == observe(wanted), prompt
