"""Rendered shapes have the areas that geometry gives them, smooth edges, and the colours that were asked for."""

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from mochi_aot.tools.training.grammar import Scene
from mochi_aot.tools.training.render import render
from mochi_aot.tools.training.scenes import FRAMES, HEIGHT, WIDTH, Clip, clip_arrays, make_clip

RADIUS = 12.0
# Squares and triangles by side; sizes in units of the radius are those that render.py documents.
AREAS = {
    "circle": math.pi,
    "square": (2 * 0.8862) ** 2,
    "triangle": 3 * math.sqrt(3) * 0.75**2,
    "ring": math.pi * ((0.83 + 0.27) ** 2 - (0.83 - 0.27) ** 2),
}


def still(shape: str, angle: float, ground: str = "plain") -> Clip:
    """A white shape in the middle of a black background."""
    clip = make_clip(Scene("white", shape, "grow", "dark", ground), Random(0))
    track = tuple(np.full(FRAMES, value) for value in (WIDTH / 2, HEIGHT / 2, RADIUS, angle))
    return replace(clip, track=track, colour=(1.0, 1.0, 1.0), ground=(0.0, 0.0, 0.0))


def drawn(*clips: Clip) -> np.ndarray:
    """Frames 0 to 1."""
    return (render(clip_arrays(clips), torch.device("cpu")) * 0.5 + 0.5).numpy()


@pytest.mark.parametrize("shape", AREAS)
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_areas(shape: str, angle: float) -> None:
    frames = drawn(still(shape, angle))
    assert frames.shape == (1, FRAMES, HEIGHT, WIDTH, 3)
    # Coverage is linear in the distance from the edge: exact along straight edges, a few tenths of a pixel at corners
    # and on bends.
    assert frames[0, 0, ..., 0].sum() == pytest.approx(AREAS[shape] * RADIUS**2, rel=0.01)


def test_edges_are_smooth() -> None:
    frame = drawn(still("circle", 0.0))[0, 0, ..., 0]
    partly = ((frame > 0.02) & (frame < 0.98)).sum()
    # A band one pixel wide along the circumference, less the pixels that it barely touches.
    assert 0.7 * 2 * math.pi * RADIUS < partly < 1.5 * 2 * math.pi * RADIUS


def test_a_triangle_points_up_until_it_is_turned() -> None:
    for angle, narrow in ((0.0, 0), (math.pi, -1)):
        widths = drawn(still("triangle", angle))[0, 0, ..., 0].sum(axis=1)
        rows = np.nonzero(widths > 0.5)[0]
        assert widths[rows[narrow]] < 3 and widths[rows[-1 - narrow]] > 20


def test_a_ring_is_open() -> None:
    assert drawn(still("ring", 0.0))[0, 0, HEIGHT // 2, WIDTH // 2, 0] == 0.0


def test_backgrounds() -> None:
    scenes = [Scene("red", "circle", "left", "gray", ground) for ground in ("plain", "graded", "striped")]
    made = [make_clip(scene, Random(5)) for scene in scenes]
    far = [replace(clip, track=tuple(np.full(FRAMES, value) for value in (-99.0, -99.0, 5.0, 0.0))) for clip in made]
    plain, graded, striped = drawn(*far)[:, 0, ..., 1]
    assert np.ptp(plain) < 1e-6
    assert 0.13 < np.ptp(graded) < 0.21  # twice the amplitude
    cos, sin = made[1].wave[:2]
    along = cos * np.arange(WIDTH)[None] + sin * np.arange(HEIGHT)[:, None]
    assert abs(np.corrcoef(along.ravel(), graded.ravel())[0, 1]) > 0.999
    middle = (striped.max() + striped.min()) / 2
    assert 0.11 < np.ptp(striped) < 0.19
    assert (np.abs(striped - middle) > 0.4 * np.ptp(striped)).mean() > 0.7  # mostly one tone or the other


def test_the_same_pixels_whatever_the_batch() -> None:
    clips = [make_clip(Scene("blue", "square", "turn", "dark", "striped"), Random(seed)) for seed in range(3)]
    assert np.array_equal(drawn(*clips)[1:2], drawn(clips[1]))
