"""Meshes over which heads, hidden numbers or frames do not divide, and one chip alone: as exact as 2x4 and 4x8.

12 heads and 2048 hidden numbers divide over two chips and four, not over 3x3 or 5x5, where weights are whole. Three
latent frames of 8 x 8 divide over four chips, not three or five: on 3x4 one axis cuts frames, on 3x3 each makes all.
"""

from functools import cache

import numpy as np
import pytest

from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from tests.reference_run import Reference, relative_error
from tests.ttnn_golden.against_ir import EXACT
from tests.ttnn_golden.lowered_model import DIT_ROLES, GEOMETRY, VIDEO, LoweredModel, prompt, prompt_ids, starting_noise

STEPS, GUIDANCE = 2, 4.5
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
        plan, cuts = (
            MESHES[mesh]["denoise"],
            MESHES[mesh].get("decode", "sp0"),
        )  # a name of no decoder leaves the choice
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
    model = exact(mesh)["denoise"]
    positive, negative = prompt(tokens[0], 1), prompt(tokens[1], 2)
    noise, sigmas = starting_noise(GEOMETRY), linear_quadratic_sigmas(STEPS)
    got = model.denoised(noise, model.conditioning(positive, negative, sigmas, GUIDANCE), STEPS)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert relative_error(got - noise, expected - noise) <= EXACT


@pytest.mark.slow
@on_meshes
def test_text_encoder(exact, reference, mesh):
    inputs = prompt_ids(9)
    got = exact(mesh)["encode_text"].run("encode_text", inputs)["prompt_embeds"]
    assert relative_error(got.numpy(), reference.encode_text(*inputs.values())) <= EXACT


@pytest.mark.slow
@on_meshes
def test_frames(exact, bfloat16_checkpoint, mesh):
    """An error of 255 * EXACT levels can move a number over the half between two levels to the other, no further."""
    noise = starting_noise(VIDEO)
    expected = Reference(bfloat16_checkpoint, VIDEO).decode(noise).astype(int)
    got = exact(mesh)["decode"].run("decode", {"latents": noise})["frames"].numpy().reshape(expected.shape)
    assert expected.std() > 20
    difference = np.abs(got - expected)
    assert difference.max() <= 1 and difference.mean() <= 2 * 255 * EXACT
