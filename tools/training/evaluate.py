"""How good a trained model is: pixels through the VAE, and whether videos show what held-out prompts say."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.tools.training.grammar import Scene
from mochi_aot.tools.training.models import Models
from mochi_aot.tools.training.sampling import GEOMETRY, Sampler
from mochi_aot.tools.training.scenes import draw_clip
from mochi_aot.tools.training.semantics import observe
from mochi_aot.tools.training.vae_stage import clip_batch

MEASURED = ("colour", "shape", "motion")
DIRECTIONS = ("left", "right", "up", "down")
PROMPT_SEED, CLIP_SEED = 1_000_003, 1_000_033  # far from those of training
BATCH = 16
STEPS, GUIDANCE_SCALE = 24, 3.0  # of videos, unless said otherwise


@dataclass(frozen=True)
class Prompt:
    """A held-out scene, one wording of it, and the seed of its noise."""

    scene: Scene
    words: str
    seed: int


def held_out_prompts(count: int) -> list[Prompt]:
    """Return the first `count` of a fixed row: combinations of colour, shape and motion that training never shows."""
    clips = (draw_clip(PROMPT_SEED, number, held_out=True) for number in range(count))
    return [Prompt(clip.scene, clip.words, number) for number, clip in enumerate(clips)]


def accuracy(prompts: Sequence[Prompt], videos: np.ndarray) -> dict[str, float]:
    """Share of videos, uint8 [n, F, H, W, 3], that show their prompt's colour, shape, motion, direction, and all.

    "direction" counts only the prompts that name one of four directions.
    """
    agreed = [observe(video).agrees(prompt.scene) for prompt, video in zip(prompts, videos, strict=True)]
    result = {name: float(np.mean([one[name] for one in agreed])) for name in MEASURED}
    moving = [one["motion"] for prompt, one in zip(prompts, agreed, strict=True) if prompt.scene.motion in DIRECTIONS]
    result["direction"] = float(np.mean(moving)) if moving else math.nan
    result["all"] = float(np.mean([all(one.values()) for one in agreed]))
    return result


def commonest(videos: np.ndarray) -> dict[str, tuple[str | None, float]]:
    """Return what most of the videos, uint8 [n, F, H, W, 3], show, and their share: of colours, shapes and motions."""
    seen = [observe(video) for video in videos]
    counts = {name: Counter(getattr(one, name) for one in seen).most_common(1)[0] for name in MEASURED}
    return {name: (value, count / len(seen)) for name, (value, count) in counts.items()}


def generate(
    models: Models, prompts: Sequence[Prompt], steps: int, guidance_scale: float, geometry: Geometry = GEOMETRY
) -> np.ndarray:
    """Videos of prompts by the reference, uint8 [n, F, H, W, 3]."""
    sampler = Sampler(models.config, models.text, models.dit, models.decoder)
    batches = [prompts[first : first + BATCH] for first in range(0, len(prompts), BATCH)]
    return np.concatenate(
        [
            sampler.videos([p.words for p in batch], [p.seed for p in batch], steps, guidance_scale, geometry)
            for batch in batches
        ]
    )


@torch.no_grad()
def reconstruction_psnr(models: Models, clips: int) -> float:
    """Mean over held-out clips of the PSNR in dB, on a scale of 1, of frames through encoder and decoder."""
    device = next(models.encoder.parameters()).device
    values = []
    batch = min(clips, BATCH)
    for number in range(-(-clips // batch)):
        video = clip_batch(CLIP_SEED, number, batch, device, held_out=True)
        again = models.decoder(models.encoder(video)).clamp(-1.0, 1.0)
        squares = ((again - video) / 2.0).square().mean(dim=(1, 2, 3, 4))
        values += (-10.0 * torch.log10(squares)).tolist()
    return float(np.mean(values[:clips]))
