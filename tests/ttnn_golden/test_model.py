"""The lowered transformer and text encoder, run by ttnn's own definitions, against the reference in float32."""

import pytest
import torch

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from tests.reference_run import Reference, pcc
from tests.ttnn_golden.lowered_model import (
    CONFIG,
    DIT_ROLES,
    GEOMETRY,
    LoweredModel,
    prompt,
    prompt_ids,
    starting_noise,
)

STEPS, GUIDANCE = 3, 4.5
# bfloat16 keeps 8 bits and bfloat8_b 7 with a shared exponent; a chain of tens of ops with float32 accumulation loses
# a few in ten thousand of the correlation. The thresholds are the project's.
PCC = {"bfloat16": 0.99, "bfloat8_b": 0.98}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "checkpoint"
    write_checkpoint(path, CONFIG, "diffusers")
    return open_checkpoint(path)


@pytest.fixture(scope="module")
def reference(checkpoint):
    return Reference(checkpoint, GEOMETRY)


@pytest.fixture(scope="module", params=[((2, 4), "bfloat16"), ((4, 8), "bfloat8_b")], ids=["2x4-bf16", "4x8-bf8"])
def model(request, checkpoint):
    mesh, dtype = request.param
    return LoweredModel.make(checkpoint, mesh, dtype, DIT_ROLES), PCC[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [(1, 0), (256, 11)], ids=["one-empty", "all-some"])
def test_latents_after_guided_steps(model, reference, tokens):
    lowered, threshold = model
    positive, negative = prompt(tokens[0], 1), prompt(tokens[1], 2)
    sigmas = linear_quadratic_sigmas(STEPS)
    noise = starting_noise(GEOMETRY)
    got = lowered.denoised(noise, lowered.conditioning(positive, negative, sigmas, GUIDANCE), STEPS)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert pcc(got, expected) >= threshold
    assert pcc(got - noise, expected - noise) >= threshold  # what the model contributed, the noise taken out


@pytest.mark.slow
def test_what_is_sent_in_bfloat8_b_is_close_enough(checkpoint, reference):
    """Ring attention's operands and gathered sums; the correlation asked is that of bfloat16."""
    lowered = LoweredModel.make(checkpoint, (2, 4), "bfloat16", DIT_ROLES, links_dtype="bfloat8_b")
    calls = lowered.programs["denoise"].program.instructions
    sends = [call for call in calls if call.op in ("all_gather", "all_reduce")]
    assert sum(call.op == "reduce_scatter" for call in calls) == len(sends) - 2  # of both velocities there is no sum
    positive, negative = prompt(256, 1), prompt(11, 2)
    sigmas = linear_quadratic_sigmas(STEPS)
    noise = starting_noise(GEOMETRY)
    got = lowered.denoised(noise, lowered.conditioning(positive, negative, sigmas, GUIDANCE), STEPS)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert pcc(got, expected) >= PCC["bfloat16"]
    assert pcc(got - noise, expected - noise) >= PCC["bfloat16"]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [0, 9, 256])
def test_text_encoder(model, reference, tokens):
    lowered, threshold = model
    inputs = prompt_ids(tokens)
    got = lowered.run("encode_text", inputs)["prompt_embeds"]
    assert pcc(got.to(torch.float32).numpy(), reference.encode_text(*inputs.values())) >= threshold
