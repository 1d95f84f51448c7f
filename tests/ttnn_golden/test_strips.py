"""The decoder as large videos have it, in strips of frames, each of which sees the last frames of the one before."""

import numpy as np
import pytest

from mochi_aot.compiler.reference.geometry import Geometry
from tests.reference_run import Reference
from tests.ttnn_golden.against_ir import EXACT
from tests.ttnn_golden.lowered_model import LoweredModel, starting_noise

# 6 latent frames, so that strips of 1, 2 and 3 are equal ones and those of 5 leave one; latents of 4 x 8.
MESH, VIDEO = (2, 4), Geometry(32, 64, 31)


@pytest.fixture(scope="module")
def expected(bfloat16_checkpoint):
    return Reference(bfloat16_checkpoint, VIDEO).decode(starting_noise(VIDEO)).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_frames_of_a_decoder_in_strips(bfloat16_checkpoint, expected, frames):
    """As for a decoder in one go: a level is off only where an error reaches over the half between two."""
    model = LoweredModel.make(bfloat16_checkpoint, MESH, "bfloat16", ["decode"], VIDEO, strip=frames).in_float32()
    got = model.run("decode", {"latents": starting_noise(VIDEO)})["frames"].numpy().reshape(expected.shape)
    assert expected.std() > 20
    difference = np.abs(got - expected)
    assert difference.max() <= 1 and difference.mean() <= 2 * 255 * EXACT
