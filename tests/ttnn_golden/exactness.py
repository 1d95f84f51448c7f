"""Lowered programs in float32 beside the reference: latents, text and frames are the same but for the order of sums."""

import numpy as np

from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from tests.reference_run import Reference, relative_error
from tests.ttnn_golden.against_ir import EXACT
from tests.ttnn_golden.lowered_model import (
    GEOMETRY,
    VIDEO,
    LoweredModel,
    any_frames,
    prompt,
    prompt_ids,
    rows_of_pixels,
    starting_noise,
)

GUIDANCE = 4.5
# Of the encoder, whose waves multiply a pixel, rounded to 2^-25, by 2 pi 2^7 (tests/compiler/trace/test_reference.py).
EXACT_WAVES = 1e-4


def require_latents(model: LoweredModel, reference: Reference, tokens: tuple[int, int], steps: int) -> None:
    """After so many guided steps, for a prompt and a negative one of so many `tokens`."""
    positive, negative = prompt(tokens[0], 1), prompt(tokens[1], 2)
    noise, sigmas = starting_noise(GEOMETRY), linear_quadratic_sigmas(steps)
    got = model.denoised(noise, model.conditioning(positive, negative, sigmas, GUIDANCE), steps)
    expected = reference.denoise(noise, positive, negative, sigmas, GUIDANCE)
    assert relative_error(got - noise, expected - noise) <= EXACT


def require_text(model: LoweredModel, reference: Reference, tokens: int) -> None:
    """Embeddings of a prompt of so many tokens."""
    inputs = prompt_ids(tokens)
    got = model.run("encode_text", inputs)["prompt_embeds"]
    assert relative_error(got.numpy(), reference.encode_text(*inputs.values())) <= EXACT


def require_frames(model: LoweredModel, checkpoint: Checkpoint) -> None:
    """An error of 255 * EXACT levels can move a number over the half between two levels to the other, no further."""
    noise = starting_noise(VIDEO)
    expected = Reference(checkpoint, VIDEO).decode(noise).astype(int)
    got = model.run("decode", {"latents": noise})["frames"].numpy().reshape(expected.shape)
    assert expected.std() > 20
    difference = np.abs(got - expected)
    assert difference.max() <= 1 and difference.mean() <= 2 * 255 * EXACT


def require_encoded(model: LoweredModel, checkpoint: Checkpoint) -> None:
    """Latents of random bytes."""
    frames = any_frames(VIDEO)
    got = model.run("encode", {"frames": rows_of_pixels(frames)})["latents"]
    assert relative_error(got.numpy(), Reference(checkpoint, VIDEO).encode(frames)) <= EXACT_WAVES
