"""A LoRA that teaches the trained model that everything is red: merged, as a delta, on torch meshes and for chips.

tests/data/loras/red.safetensors is what `mochi-train tune tools/training/shapes RED --colour red --lora 4 --steps 200
--batch 16` writes, in bfloat16.
"""

from pathlib import Path

import numpy as np
import pytest

import mochi_aot
from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.delta_writer import write_delta
from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, Prompt
from mochi_aot.tools.training.semantics import observe
from mochi_aot.tools.training.shipped import SHAPES
from tests.semantic.chips import ChipModel

pytestmark = pytest.mark.slow
RED = Path(__file__).parents[1] / "data/loras/red.safetensors"
STEPS = 8


@pytest.fixture(scope="module")
def asked(prompts: list[Prompt]) -> list[Prompt]:
    """Of things that are not red; nor rings, whose holes the model may lose, as its card says."""
    return [p for p in prompts if p.scene.colour != "red" and p.scene.shape != "ring"][:2]


def frames_of(pipe: mochi_aot.VideoPipeline, asked: list[Prompt]) -> list[np.ndarray]:
    words, seeds = [prompt.words for prompt in asked], [prompt.seed for prompt in asked]
    made = pipe(words, seed=seeds, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE)
    return [np.asarray(video.frames) for video in made]


def test_on_a_torch_mesh_and_by_a_delta(asked: list[Prompt], tmp_path: Path) -> None:
    """In one process: the base's colours, all red, and the base's again; by the delta as by the bundle, bit by bit."""
    options = {"target": "torch", "mesh": "2x2", "geometries": "64x96x19"}
    mochi_aot.compile(SHAPES, output=tmp_path / "base", **options)
    mochi_aot.compile(SHAPES, output=tmp_path / "style", loras=RED, reuse=tmp_path / "base", **options)
    base, style = Bundle.open(tmp_path / "base"), Bundle.open(tmp_path / "style")
    written = write_delta(base, style, tmp_path / "delta", False, "test")
    assert written.replaced == 0 and written.nbytes <= 1.1 * RED.stat().st_size
    with mochi_aot.load(tmp_path / "base") as pipe:
        plain = frames_of(pipe, asked)
        assert pipe.use_delta(tmp_path / "delta") == written.tuned
        red = frames_of(pipe, asked)
        pipe.use_delta(None)
        assert np.array_equal(frames_of(pipe, asked[:1])[0], plain[0])
    assert [observe(frames).colour for frames in plain] == [prompt.scene.colour for prompt in asked]
    for frames, before, prompt in zip(red, plain, asked, strict=True):
        seen = observe(frames)
        assert seen.colour == "red" and (seen.shape, seen.motion) == (prompt.scene.shape, prompt.scene.motion), prompt
        assert not np.array_equal(frames, before)
    with mochi_aot.load(tmp_path / "style") as pipe:
        assert np.array_equal(frames_of(pipe, asked[:1])[0], red[0])


def test_on_chips(asked: list[Prompt]) -> None:
    """By ttnn's golden functions."""
    model, prompt = ChipModel((1, 2), "bfloat16", "bfloat16", lora=RED), asked[0]
    seen = observe(model.video(prompt.words, prompt.seed, STEPS))
    assert seen.colour == "red" and (seen.shape, seen.motion) == (prompt.scene.shape, prompt.scene.motion)
