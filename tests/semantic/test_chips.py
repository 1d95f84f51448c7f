"""Lowered for ttnn and run by ttnn's golden functions, the trained model shows what the reference shows."""

import numpy as np
import pytest

from mochi_aot.tools.benchmarks.similarity import squared_error, to_decibels
from mochi_aot.tools.training.evaluate import Prompt
from tests.semantic.chips import ChipModel
from tests.semantic.conftest import LONGER, LONGER_NEGATIVE, LONGER_PROMPTS, LONGER_SCALE, LONGER_STEPS
from tests.semantic.firm import check_same_scenes

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
    expected = reference(COUNT, STEPS)
    got = np.stack([model.video(prompt.words, prompt.seed, STEPS) for prompt in prompts[:COUNT]])
    for prompt, frames, wanted in zip(prompts[:COUNT], got, expected, strict=True):
        decibels = to_decibels(squared_error(frames, wanted))
        assert decibels is not None and decibels >= least, prompt
    check_same_scenes(got, expected)


def test_another_size_scale_and_negative_prompt(longer: np.ndarray, prompts: list[Prompt]) -> None:
    """bfloat8_b of weights and links, as above."""
    model = ChipModel((1, 2), "bfloat8_b", "bfloat8_b", LONGER)
    asked = [(prompt.words, prompt.seed) for prompt in prompts[LONGER_PROMPTS]]
    got = np.stack([model.video(*one, LONGER_STEPS, LONGER_SCALE, LONGER_NEGATIVE) for one in asked])
    for frames, wanted in zip(got, longer, strict=True):
        decibels = to_decibels(squared_error(frames, wanted))
        assert decibels is not None and decibels >= 34.0
    check_same_scenes(got, longer)
