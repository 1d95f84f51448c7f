"""T5 in a dtype of its own: float32 within a bundle in bfloat16, as transformers computes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import T5EncoderModel

import mochi_aot
from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.api import make_job
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.errors import CompileOptionError
from mochi_aot.compiler.rebuilt import Rebuilder
from mochi_aot.runtime.tokenizer import open_tokenizer

PROMPT = "a red fox runs over the snow"


@pytest.mark.slow
def test_it_is_transformers_t5_in_float32(tmp_path: Path) -> None:
    """Its embeddings are float32's, rounded to bfloat16 once: off by half a unit at most, unlike T5 in bfloat16."""
    write_checkpoint(tmp_path / "checkpoint", TINY, "diffusers", dtype=torch.bfloat16)
    theirs = T5EncoderModel.from_pretrained(tmp_path / "checkpoint/text_encoder", dtype=torch.float32)
    beyond = []
    for dtype in (None, "float32"):
        output = tmp_path / str(dtype)
        options = {"mesh": "1x2", "geometries": "16x16x7", "target": "torch"}
        mochi_aot.compile(tmp_path / "checkpoint", output=output, text_dtype=dtype, **options)
        bundle = Bundle.open(output)
        ids, mask = open_tokenizer(bundle).encode(PROMPT)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state.numpy()[mask]
        with mochi_aot.load(output) as pipe:
            seen = pipe.encode_prompt(PROMPT)[0][mask]
            assert np.isfinite(pipe(PROMPT, num_inference_steps=1, seed=1, output_type="latent").latents).all()
        # Half of a unit in bfloat16's last place, and what float32 sums in another order may add to numbers of order 1.
        beyond.append(float(np.mean(np.abs(seen - expected) > 2.0**-8 * np.abs(expected) + 1e-5)))
        held = {weight.dtype for weight in bundle.manifest.weights if weight.name.startswith("text.")}
        assert held == {dtype or "bfloat16"} and bundle.manifest.dtype == "bfloat16"
        geometry = bundle.manifest.geometries[0]
        assert Rebuilder(bundle.manifest, geometry).program("encode_text", bundle.program("encode_text", geometry))
    assert beyond[1] == 0.0 and beyond[0] > 0.1


def test_chips_compute_in_bfloat16() -> None:
    with pytest.raises(CompileOptionError, match="text-dtype float32 is for target torch; chips compute in bfloat16"):
        make_job("1x2", "16x16x7", "auto", "bfloat16", "ttnn", "bfloat16", "bfloat16", text_dtype="float32")
    assert make_job("1x2", "16x16x7", "auto", "float32", "torch", "bfloat16", "bfloat16", text_dtype="bfloat16")
