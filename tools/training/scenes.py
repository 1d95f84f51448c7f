"""Scenes at random, with all the numbers that a renderer needs. One seed and number give the same clip for ever.

A caption leaves little open: one of three places, and tints. What is left open a model has to choose by itself, all its
tokens alike, and that is what a small one learns last.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from mochi_aot.tools.training.grammar import COLOURS, GROUNDS, SHAPES, TONES, Scene, caption, draw_scene, pick

HEIGHT, WIDTH = 64, 96
FRAMES = 19
ASIDE = 8.0  # pixels at most from the middle: as much as a latent pixel
PERIOD = 16.0  # of stripes, in pixels: the side of a transformer's token, so that few patches hold all stripes
MARGIN = 2.0  # pixels between a shape and the border, at least
EXTENT = {"circle": 1.0, "square": 1.2533, "triangle": 1.5, "ring": 1.1}  # farthest point over radius

Track = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x, y, radius, angle: each [F], pixels and radians
TIME = np.arange(FRAMES, dtype=np.float64)


@dataclass(frozen=True)
class Clip:
    """A scene, its caption and its numbers."""

    scene: Scene
    words: str
    track: Track
    colour: tuple[float, ...]  # RGB
    ground: tuple[float, ...]  # RGB of the background's middle tone
    wave: tuple[float, ...]  # of the background: direction's cosine and sine, amplitude, period in pixels, phase


def draw_clip(seed: int, number: int, held_out: bool = False) -> Clip:
    """Clip `number` of the endless row that `seed` begins."""
    rng = Random(f"{seed}/{number}/{held_out}")
    return make_clip(draw_scene(rng, held_out), rng)


def make_clip(scene: Scene, rng: Random) -> Clip:
    """Return a clip that shows `scene`."""
    colour = tuple(_around(rng, value, 0.02) for value in COLOURS[scene.colour])
    tone = _around(rng, TONES[scene.tone], 0.02)
    ground = tuple(_around(rng, tone, 0.01) for _ in range(3))
    track = _TRACKS[scene.motion](scene, rng)
    return Clip(scene, caption(scene, rng), track, colour, ground, _wave(scene))


def _wave(scene: Scene) -> tuple[float, ...]:
    """Lighter to the right, or upright stripes."""
    amplitude = {"plain": 0.0, "graded": 0.09, "striped": 0.08}[scene.ground]
    return 1.0, 0.0, amplitude, PERIOD, 0.0


def _sideways(sign: float) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        radius = _radius(scene)
        speed = _paced(scene, 1.2, 2.6)
        travel = speed * (FRAMES - 1)
        x = (WIDTH - travel) / 2 + speed * TIME
        y = _place(scene, rng, radius, HEIGHT)
        return (x if sign > 0 else WIDTH - x), _still(y), _still(radius), _still(0.0)

    return track


def _upright(sign: float) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        radius = min(_radius(scene), 10.5)
        room = HEIGHT - 2 * (MARGIN + EXTENT[scene.shape] * radius)
        speed = min(_paced(scene, 0.8, 1.8), room / (FRAMES - 1))
        y = (HEIGHT - speed * (FRAMES - 1)) / 2 + speed * TIME
        x = _place(scene, rng, radius, WIDTH)
        return _still(x), (y if sign > 0 else HEIGHT - y), _still(radius), _still(0.0)

    return track


def _growing(reverse: bool) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        small = 7.0
        large = small * _paced(scene, 1.8, 2.3)
        radius = np.linspace(large, small, FRAMES) if reverse else np.linspace(small, large, FRAMES)
        return _still(_place(scene, rng, large, WIDTH)), _still(HEIGHT / 2), radius, _still(0.0)

    return track


def _turning(scene: Scene, rng: Random) -> Track:
    radius = _radius(scene)
    speed = _paced(scene, 4.0, 8.0) * math.pi / 180
    return _still(_place(scene, rng, radius, WIDTH)), _still(HEIGHT / 2), _still(radius), speed * TIME


def _bouncing(scene: Scene, rng: Random) -> Track:
    radius = min(_radius(scene), 10.0)
    reach = MARGIN + EXTENT[scene.shape] * radius
    height = min(24.0, HEIGHT - 2 * reach)
    frames = _paced(scene, 18.0, 11.0)  # from one touch of the floor to the next
    y = HEIGHT - reach - height * np.abs(np.sin(np.pi * TIME / frames))
    return _still(_place(scene, rng, radius, WIDTH)), y, _still(radius), _still(0.0)


_TRACKS: dict[str, Callable[[Scene, Random], Track]] = {
    "left": _sideways(-1.0),
    "right": _sideways(1.0),
    "up": _upright(-1.0),
    "down": _upright(1.0),
    "grow": _growing(reverse=False),
    "shrink": _growing(reverse=True),
    "turn": _turning,
    "bounce": _bouncing,
}


def _radius(scene: Scene) -> float:
    """Pixels."""
    return {"small": 8.0, None: 10.5, "large": 13.0}[scene.size]


def _paced(scene: Scene, slowest: float, fastest: float) -> float:
    return slowest + (fastest - slowest) * {"slowly": 0.0, None: 0.5, "quickly": 1.0}[scene.speed]


def _place(scene: Scene, rng: Random, radius: float, size: int) -> float:
    """Where a shape stands on an axis that it does not move along: in the middle, or aside if there is room."""
    room = size / 2 - MARGIN - EXTENT[scene.shape] * radius
    return size / 2 + min(ASIDE, room) * pick(rng, (-1.0, 0.0, 1.0))


def _still(value: float) -> np.ndarray:
    return np.full(FRAMES, value)


def _between(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _around(rng: Random, value: float, spread: float) -> float:
    return min(max(value + _between(rng, -spread, spread), 0.0), 1.0)


def clip_arrays(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """Return what `render` reads: float32 arrays, the clips first; `shape` and `ground_kind` are indices, int64."""
    return {
        "track": np.array([clip.track for clip in clips], np.float32),  # [n, 4, F]
        "colour": np.array([clip.colour for clip in clips], np.float32),  # [n, 3]
        "ground": np.array([clip.ground for clip in clips], np.float32),  # [n, 3]
        "wave": np.array([clip.wave for clip in clips], np.float32),  # [n, 5]
        "shape": np.array([SHAPES.index(clip.scene.shape) for clip in clips], np.int64),
        "ground_kind": np.array([GROUNDS.index(clip.scene.ground) for clip in clips], np.int64),
    }
