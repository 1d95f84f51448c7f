"""Meshes over which heads, hidden numbers or frames do not divide, and one chip alone: as exact as 2x4 and 4x8.

12 heads and 2048 hidden numbers divide over two chips and four, not over 3x3 or 5x5, where weights are whole. Three
latent frames of 8 x 8 divide over four chips, not three or five: on 3x4 one axis cuts frames, on 3x3 each makes all.
"""

from functools import cache

import pytest

from tests.reference_run import Reference
from tests.ttnn_golden.exactness import require_encoded, require_frames, require_latents, require_text
from tests.ttnn_golden.lowered_model import DIT_ROLES, GEOMETRY, VIDEO, LoweredModel

STEPS = 2
MESHES = {
    (1, 1): {"encode_text": "tp0", "denoise": "sp1tp0", "decode": "h0w1"},
    (1, 3): {"denoise": "sp1tp0"},
    (2, 3): {"denoise": "sp1tp0"},
    (3, 2): {"denoise": "sp0tp1"},
    (3, 3): {"encode_text": "tpnone", "denoise": "sp1", "decode": "whole"},
    (3, 4): {"denoise": "sp0tp1", "decode": "h1"},
    (5, 5): {"encode_text": "tpnone", "denoise": "sp1", "decode": "whole"},
}
on_meshes = pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")


@pytest.fixture(scope="module")
def exact(bfloat16_checkpoint):
    """Makes the programs of a mesh in float32, by role."""

    @cache
    def make(mesh):
        plan = MESHES[mesh]["denoise"]
        cuts = MESHES[mesh].get("decode", "sp0")  # a name of no decoder leaves the choice
        transformer = LoweredModel.make(bfloat16_checkpoint, mesh, "bfloat16", DIT_ROLES, plan=plan).in_float32()
        decoder = LoweredModel.make(bfloat16_checkpoint, mesh, "bfloat16", ["decode"], VIDEO, plan=cuts)
        decoder = decoder.in_float32()
        return {**dict.fromkeys(DIT_ROLES, transformer), "decode": decoder}

    return make


@pytest.fixture(scope="module")
def reference(bfloat16_checkpoint):
    return Reference(bfloat16_checkpoint, GEOMETRY)


@pytest.mark.slow
@on_meshes
def test_plans_of_last_resort_are_what_is_run(exact, mesh):
    for role, plan in MESHES[mesh].items():
        assert exact(mesh)[role].programs[role].program.plan == plan


@pytest.mark.slow
@on_meshes
@pytest.mark.parametrize("tokens", [(1, 0), (256, 37)], ids=["one-empty", "all-some"])
def test_latents_after_guided_steps(exact, reference, mesh, tokens):
    require_latents(exact(mesh)["denoise"], reference, tokens, STEPS)


@pytest.mark.slow
@on_meshes
def test_text_encoder(exact, reference, mesh):
    require_text(exact(mesh)["encode_text"], reference, 9)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(1, 1), (3, 3), (3, 4)], ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")
def test_encoded_video(bfloat16_checkpoint, mesh):
    encoder = LoweredModel.make(bfloat16_checkpoint, mesh, "bfloat16", ["encode"], VIDEO).in_float32()
    require_encoded(encoder, bfloat16_checkpoint)


@pytest.mark.slow
@on_meshes
def test_frames(exact, bfloat16_checkpoint, mesh):
    require_frames(exact(mesh)["decode"], bfloat16_checkpoint)
