"""Lowered for ttnn and run by ttnn's golden functions, the trained model shows what the reference shows."""

import pytest

from mochi_aot.tools.benchmarks.similarity import squared_error, to_decibels
from mochi_aot.tools.training.evaluate import Prompt
from mochi_aot.tools.training.semantics import observe
from tests.semantic.chips import ChipModel

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
