"""Scenes at random, with all the numbers that a renderer needs. One seed and number give the same clip for ever."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from mochi_aot.tools.training.grammar import COLOURS, GROUNDS, SHAPES, TONES, Scene, caption, draw_scene

HEIGHT, WIDTH = 64, 96
FRAMES = 25  # the first 19 of them are a clip too
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
    """A clip that shows `scene`."""
    colour = tuple(_around(rng, value, 0.03) for value in COLOURS[scene.colour])
    tone = _around(rng, TONES[scene.tone], 0.03)
    ground = tuple(_around(rng, tone, 0.02) for _ in range(3))
    track = _TRACKS[scene.motion](scene, rng)
    return Clip(scene, caption(scene, rng), track, colour, ground, _wave(scene, rng))


def _wave(scene: Scene, rng: Random) -> tuple[float, ...]:
    turn = math.pi / 4 * int(rng.random() * 4)
    amplitude = {"plain": 0.0, "graded": _between(rng, 0.07, 0.10), "striped": _between(rng, 0.06, 0.09)}[scene.ground]
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return math.cos(turn), math.sin(turn), sign * amplitude, _between(rng, 12.0, 20.0), _between(rng, 0.0, 1.0)


def _sideways(sign: float) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        radius = _radius(scene, rng)
        speed = _paced(scene, rng, 0.9, 2.3)
        travel = speed * (FRAMES - 1)
        x = _start(scene, rng, radius, WIDTH, travel) + speed * TIME
        y = _start(scene, rng, radius, HEIGHT, 0.0)
        return (x if sign > 0 else WIDTH - x), _still(y), _still(radius), _still(_tilt(rng))

    return track


def _upright(sign: float) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        radius = min(_radius(scene, rng), 11.0)
        room = HEIGHT - 2 * (MARGIN + EXTENT[scene.shape] * radius)
        speed = min(_paced(scene, rng, 0.65, 1.6), room / (FRAMES - 1))
        y = _start(scene, rng, radius, HEIGHT, speed * (FRAMES - 1)) + speed * TIME
        x = _start(scene, rng, radius, WIDTH, 0.0)
        return _still(x), (y if sign > 0 else HEIGHT - y), _still(radius), _still(_tilt(rng))

    return track


def _growing(reverse: bool) -> Callable[[Scene, Random], Track]:
    def track(scene: Scene, rng: Random) -> Track:
        small = _between(rng, 5.5, 7.5)
        large = small * _paced(scene, rng, 1.8, 2.6)
        radius = np.linspace(large, small, FRAMES) if reverse else np.linspace(small, large, FRAMES)
        x, y = (_start(scene, rng, large, size, 0.0) for size in (WIDTH, HEIGHT))
        return _still(x), _still(y), radius, _still(_tilt(rng))

    return track


def _turning(scene: Scene, rng: Random) -> Track:
    radius = _radius(scene, rng)
    speed = _paced(scene, rng, 3.0, 9.0) * math.pi / 180
    sign = 1.0 if rng.random() < 0.5 else -1.0
    x, y = (_start(scene, rng, radius, size, 0.0) for size in (WIDTH, HEIGHT))
    return _still(x), _still(y), _still(radius), _between(rng, 0.0, 2 * math.pi) + sign * speed * TIME


def _bouncing(scene: Scene, rng: Random) -> Track:
    radius = min(_radius(scene, rng), 10.0)
    reach = MARGIN + EXTENT[scene.shape] * radius
    height = min(_between(rng, 18.0, 26.0), HEIGHT - 2 * reach)
    frames = _paced(scene, rng, 15.0, 8.0)  # from one touch of the floor to the next
    y = HEIGHT - reach - height * np.abs(np.sin(np.pi * (TIME / frames + _between(rng, 0.0, 1.0))))
    return _still(_start(scene, rng, radius, WIDTH, 0.0)), y, _still(radius), _still(_tilt(rng))


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


def _radius(scene: Scene, rng: Random) -> float:
    """Pixels: 6.5 to 13."""
    low, high = {"small": (6.5, 8.0), "large": (10.5, 13.0), None: (7.0, 12.5)}[scene.size]
    return _between(rng, low, high)


def _paced(scene: Scene, rng: Random, slowest: float, fastest: float) -> float:
    low, high = {"slowly": (0.0, 0.25), "quickly": (0.7, 1.0), None: (0.1, 0.9)}[scene.speed]
    return slowest + (fastest - slowest) * _between(rng, low, high)


def _start(scene: Scene, rng: Random, radius: float, size: int, travel: float) -> float:
    """Where a shape may begin so that it is still inside after `travel` pixels."""
    reach = MARGIN + EXTENT[scene.shape] * radius
    return _between(rng, reach, max(size - reach - travel, reach))


def _tilt(rng: Random) -> float:
    """A few degrees, in radians: drawn shapes stand nearly upright."""
    return _between(rng, -0.12, 0.12)


def _still(value: float) -> np.ndarray:
    return np.full(FRAMES, value)


def _between(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _around(rng: Random, value: float, spread: float) -> float:
    return min(max(value + _between(rng, -spread, spread), 0.0), 1.0)


def clip_arrays(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """What `render` reads: float32 arrays, the clips first; `shape` and `ground_kind` are indices, int64."""
    return {
        "track": np.array([clip.track for clip in clips], np.float32),  # [n, 4, F]
        "colour": np.array([clip.colour for clip in clips], np.float32),  # [n, 3]
        "ground": np.array([clip.ground for clip in clips], np.float32),  # [n, 3]
        "wave": np.array([clip.wave for clip in clips], np.float32),  # [n, 5]
        "shape": np.array([SHAPES.index(clip.scene.shape) for clip in clips], np.int64),
        "ground_kind": np.array([GROUNDS.index(clip.scene.ground) for clip in clips], np.int64),
    }
