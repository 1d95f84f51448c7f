"""The lowered transformer and text encoder, run by ttnn's own definitions, against the reference in float32."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.tensor_files import Embedding
from tests.reference_run import Reference, pcc
from tests.ttnn_golden.lowered_model import CONFIG, GEOMETRY, LoweredModel
from tests.ttnn_golden.runner import place

ROLES = ["encode_text", "prepare_prompt", "prepare_steps", "denoise"]
STEPS, GUIDANCE, CAPACITY = 3, 4.5, 64
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
    return LoweredModel.make(checkpoint, mesh, dtype, ROLES), PCC[dtype]


def prompt(tokens: int, seed: int) -> Embedding:
    embeds = np.random.default_rng(seed).standard_normal((1, CONFIG.text_length, CONFIG.dit.caption_width))
    return Embedding(embeds.astype(np.float32), np.arange(CONFIG.text_length)[None] < tokens)


def denoised(model: LoweredModel, noise: np.ndarray, positive: Embedding, negative: Embedding, sigmas: np.ndarray):
    """Latents after all steps, as chip 0 holds them."""
    specs = {item.name: item.spec for low in model.programs.values() for item in low.program.inputs}

    def placed(arrays: dict[str, np.ndarray]):
        return {name: place(array, specs[name], model.mesh) for name, array in arrays.items()}

    embeddings = {"prompt_embeds": positive.embeds, "prompt_attention_mask": positive.mask}
    embeddings |= {"negative_prompt_embeds": negative.embeds, "negative_prompt_attention_mask": negative.mask}
    known = model.on_chips("prepare_prompt", placed(embeddings))
    rows = np.minimum(np.arange(CAPACITY), STEPS - 1)
    steps = {"sigma": sigmas[rows], "next_sigma": sigmas[rows + 1]}
    steps["guidance_scale"] = np.full(CAPACITY, GUIDANCE, np.float32)
    known |= model.on_chips("prepare_steps", known | placed(steps))
    values = placed({"latents": noise})
    for step in range(STEPS):
        values = model.on_chips("denoise", known | values | placed({"step": np.array([step], np.int32)}))
    return values["latents"][0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [(1, 0), (256, 11)], ids=["one-empty", "all-some"])
def test_latents_after_guided_steps(model, reference, tokens):
    lowered, threshold = model
    positive, negative = prompt(tokens[0], 1), prompt(tokens[1], 2)
    sigmas = linear_quadratic_sigmas(STEPS)
    noise = seeded_latents(3, (1, 12, *GEOMETRY.latent_size(CONFIG)))
    got = denoised(lowered, noise, positive, negative, sigmas)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert pcc(got, expected) >= threshold
    assert pcc(got - noise, expected - noise) >= threshold  # what the model contributed, the noise taken out


@pytest.mark.slow
def test_what_is_sent_in_bfloat8_b_is_close_enough(checkpoint, reference):
    """Ring attention's operands and gathered sums; the correlation asked is that of bfloat16."""
    lowered = LoweredModel.make(checkpoint, (2, 4), "bfloat16", ROLES, links_dtype="bfloat8_b")
    calls = lowered.programs["denoise"].program.instructions
    sends = [call for call in calls if call.op in ("all_gather", "all_reduce")]
    assert sum(call.op == "reduce_scatter" for call in calls) == len(sends) - 1  # of velocities there is no sum
    positive, negative = prompt(256, 1), prompt(11, 2)
    sigmas = linear_quadratic_sigmas(STEPS)
    noise = seeded_latents(3, (1, 12, *GEOMETRY.latent_size(CONFIG)))
    got = denoised(lowered, noise, positive, negative, sigmas)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert pcc(got, expected) >= PCC["bfloat16"]
    assert pcc(got - noise, expected - noise) >= PCC["bfloat16"]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [0, 9, 256])
def test_text_encoder(model, reference, tokens):
    lowered, threshold = model
    ids = np.where(np.arange(256) < tokens, np.arange(256) % 400 + 3, 0)[None].astype(np.int32)
    mask = np.arange(256)[None] < tokens
    got = lowered.run("encode_text", {"input_ids": ids, "attention_mask": mask})["prompt_embeds"]
    assert pcc(got.to(torch.float32).numpy(), reference.encode_text(ids, mask)) >= threshold
