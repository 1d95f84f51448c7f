"""A LoRA that teaches the trained model that everything is red: merged, as a delta, on torch meshes and for chips.

tests/data/loras/red.safetensors is what `mochi-train tune tools/training/shapes RED --colour red --lora 4 --steps 200
--batch 16` writes, in bfloat16.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mochi_aot
from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.delta import OpenDelta
from mochi_aot.artifacts.delta_writer import write_delta
from mochi_aot.compiler.lora_delta import write_delta_of_loras
from mochi_aot.compiler.lower import shards
from mochi_aot.tools.training.evaluate import GUIDANCE_SCALE, Prompt
from mochi_aot.tools.training.semantics import Observation
from mochi_aot.tools.training.shipped import SHAPES
from tests.semantic.chips import ChipModel
from tests.semantic.firm import firmly_seen

pytestmark = pytest.mark.slow
RED = Path(__file__).parents[1] / "data/loras/red.safetensors"
STEPS = 8
RED_SQUARE = Observation("red", "square", "up")


@pytest.fixture(scope="module")
def asked(prompts: list[Prompt]) -> Prompt:
    """Of a thing that is not red, whose videos, red or not, show their shape clearly."""
    asked = prompts[4]
    assert (asked.scene.colour, asked.scene.shape, asked.scene.motion) == ("blue", "square", "up")
    return asked


def frames_of(pipe: mochi_aot.VideoPipeline, asked: Prompt) -> np.ndarray:
    made = pipe(asked.words, seed=asked.seed, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE)
    return np.asarray(made.frames)


def test_on_a_torch_mesh_and_by_a_delta(asked: Prompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process first as the prompt says and then red; by the delta as by the bundle, bit by bit.

    Each weight has a file of its own here, as those of a model of full size do; no other files are written again.
    """
    monkeypatch.setattr(shards, "OWN_FILE_BYTES", 1)
    options = {"target": "torch", "mesh": "2x2", "geometries": "64x96x19"}
    mochi_aot.compile(SHAPES, output=tmp_path / "base", **options)
    made = mochi_aot.compile(SHAPES, output=tmp_path / "style", loras=RED, reuse=tmp_path / "base", **options)
    base, style = Bundle.open(tmp_path / "base"), Bundle.open(tmp_path / "style")
    assert base.manifest.checkpoint["identity"] != style.manifest.checkpoint["identity"]
    written = write_delta(base, style, tmp_path / "delta", False, "test")
    assert written.replaced == 0 and written.nbytes <= 1.1 * RED.stat().st_size
    touched = [style.parts(weight.name) for weight in style.loras().weights]
    nbytes = sum(part.nbytes for parts in touched for part in parts)
    assert made.weight_bytes_reused >= sum(shard.nbytes for shard in style.manifest.shards) - nbytes
    files = [path for path in (style.path / "weights").iterdir() if path.stat().st_nlink == 1]
    assert len(files) == len(touched) and nbytes <= sum(path.stat().st_size for path in files) <= 1.01 * nbytes
    alone = write_delta_of_loras(
        base, [str(RED)], tmp_path / "alone", False, "test"
    )  # knows neither style nor checkpoint
    assert (alone.tuned, alone.replaced) == (written.tuned, 0)
    of_both, of_lora = (OpenDelta.open(tmp_path / name) for name in ("delta", "alone"))
    assert of_lora.delta == replace(of_both.delta, style="", checkpoint=of_lora.delta.checkpoint)
    assert of_lora.delta.checkpoint["lora"] == style.manifest.checkpoint["lora"]
    with mochi_aot.load(tmp_path / "base") as pipe:
        assert firmly_seen(frames_of(pipe, asked)) == Observation("blue", "square", "up")
        assert pipe.use_delta(tmp_path / "delta") == written.tuned
        red = frames_of(pipe, asked)
    assert firmly_seen(red) == RED_SQUARE
    with mochi_aot.load(tmp_path / "style") as pipe:
        assert np.array_equal(frames_of(pipe, asked), red)


def test_on_chips(asked: Prompt) -> None:
    """By ttnn's golden functions."""
    model = ChipModel((1, 2), "bfloat16", "bfloat16", lora=RED)
    assert firmly_seen(model.video(asked.words, asked.seed, STEPS)) == RED_SQUARE
