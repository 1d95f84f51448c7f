"""Seeded inputs for each program of a bundle, the same on every machine."""

from collections.abc import Mapping

import numpy as np

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import step_chunks
from mochi_aot.runtime.schedule import linear_quadratic_sigmas

_STEPS, _STEP = 3, 1  # the second step of three: neither all noise nor none
_GUIDANCE = 4.5
_IDS = 240  # the trained model knows 256 tokens, others more; 0 to 2 are special


def host_inputs(program: Program, role: str, tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return what the host gives to a program, by name, for a prompt and a negative prompt of so many `tokens`."""
    shapes = {source.name: source.spec.shape for source in program.inputs}
    made = {
        "encode_text": _text,
        "prepare_prompt": _prompts,
        "prepare_steps": _steps,
        "denoise": _noise,
        "decode": _noise,
        "encode": _frames,
    }[role](shapes, tokens)
    return {name: array for name, array in made.items() if name in shapes}


def _text(shapes: Mapping[str, list[int]], tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    position = np.arange(shapes["input_ids"][-1])[None]
    ids = np.where(position < tokens[0], position % _IDS + 3, 0)
    return {"input_ids": ids.astype(np.int32), "attention_mask": position < tokens[0]}


def _prompts(shapes: Mapping[str, list[int]], tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for seed, (prefix, count) in enumerate(zip(("", "negative_"), tokens, strict=True), start=1):
        embeds, mask = f"{prefix}prompt_embeds", f"{prefix}prompt_attention_mask"
        made[embeds] = seeded_latents(seed, shapes[embeds])
        made[mask] = np.broadcast_to(np.arange(shapes[mask][-1]) < count, shapes[mask])
    return made


def _steps(shapes: Mapping[str, list[int]], tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    (chunk,) = step_chunks(linear_quadratic_sigmas(_STEPS), _GUIDANCE, shapes["sigma"][0])
    return chunk


def _noise(shapes: Mapping[str, list[int]], tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"latents": seeded_latents(3, shapes["latents"]), "step": np.array([_STEP], np.int32)}


def _frames(shapes: Mapping[str, list[int]], tokens: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"frames": np.random.default_rng(4).integers(0, 256, shapes["frames"], np.uint8)}
