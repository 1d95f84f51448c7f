"""What a video shows, measured on its frames: the colour and shape of the one thing on a gray background, its motion.

Nothing here knows how clips are drawn or generated; the numbers are geometry, checked on rendered clips by the tests.
"""

from dataclasses import dataclass

import numpy as np

from mochi_aot.tools.training.grammar import COLOURS, SHAPES, Scene

COLOUR_RADIUS = 0.42  # of a palette colour, in RGB of 0 to 1: nearer pixels belong to it
CHROMA = 0.25  # highest minus lowest channel of a pixel that is not gray
WHITE = 0.84  # lowest channel of a white pixel: backgrounds end at 0.81
LEAST_AREA = 20  # pixels in a frame
MOVED = 7.0  # pixels between the first and last frames
GROWN = 1.35  # area of the last frames over that of the first
TURNED = 25.0  # degrees
BOUNCED = 6.0  # pixels between the highest and the lowest frame
RING_SPREAD = 0.225  # mean square distance from the centre over area: disc 0.159, square 0.167, triangle 0.192
TRIANGLE_HARMONIC, SQUARE_HARMONIC = 0.28, 0.12  # drawn ones: 0.53 and 0.24 at least, others 0.07 and 0.04 at most


@dataclass(frozen=True)
class Observation:
    """What was seen; None where nothing was."""

    colour: str | None
    shape: str | None
    motion: str | None

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """For each of colour, shape and motion whether it is that of `scene`."""
        return {name: getattr(self, name) == getattr(scene, name) for name in ("colour", "shape", "motion")}


def observe(frames: np.ndarray) -> Observation:
    """Measure frames uint8 [F, H, W, 3]."""
    video = frames.astype(np.float32) / 255.0
    colour, mask = _dominant(video)
    seen = mask.sum(axis=(1, 2)) >= LEAST_AREA
    if seen.sum() < len(frames) * 0.75:
        return Observation(None, None, None)
    moments = [_Moments.of(frame) for frame in mask[seen]]
    shape = _shape(moments)
    return Observation(colour, shape, _motion(moments, shape))


def _dominant(video: np.ndarray) -> tuple[str, np.ndarray]:
    """Return the palette colour that covers most, and where it is: bool [F, H, W]"""
    lowest, highest = video.min(axis=-1), video.max(axis=-1)
    palette = np.array(list(COLOURS.values()), np.float32)
    distance = np.linalg.norm(video[..., None, :] - palette, axis=-1)  # [F, H, W, colours]
    nearest = distance.argmin(axis=-1)
    coloured = (highest - lowest > CHROMA) & (distance.min(axis=-1) < COLOUR_RADIUS)
    masks = {}
    for index, name in enumerate(COLOURS):
        masks[name] = lowest > WHITE if name == "white" else coloured & (nearest == index)
    colour = max(masks, key=lambda name: int(masks[name].sum()))
    return colour, masks[colour] if colour == "white" else coloured


@dataclass(frozen=True)
class _Moments:
    """Of one frame's mask: area, centre, spread, and its harmonics of three and four about the centre."""

    area: float
    x: float
    y: float
    spread: float
    harmonics: dict[int, complex]

    @classmethod
    def of(cls, mask: np.ndarray) -> "_Moments":
        rows, columns = np.nonzero(mask)
        area, x, y = float(len(rows)), float(columns.mean()), float(rows.mean())
        offset = (columns - x) + 1j * (rows - y)
        radius = np.abs(offset)
        spread = float((radius**2).mean() / area)
        unit = offset / np.maximum(radius, 1e-6)
        harmonics = {n: complex((radius**2 * unit**n).sum() / (radius**2).sum()) for n in (3, 4)}
        return cls(area, x, y, spread, harmonics)


def _shape(moments: list[_Moments]) -> str:
    spread = float(np.median([m.spread for m in moments]))
    three, four = (float(np.median([abs(m.harmonics[n]) for m in moments])) for n in (3, 4))
    if spread > RING_SPREAD:
        return SHAPES[3]
    if three > TRIANGLE_HARMONIC:
        return SHAPES[2]
    return SHAPES[1] if four > SQUARE_HARMONIC else SHAPES[0]


def _motion(moments: list[_Moments], shape: str) -> str | None:
    """Return the largest change by its own measure; None if there is none."""
    end = max(len(moments) // 6, 1)
    first, last = moments[:end], moments[-end:]
    growth = _mean(last, "area") / _mean(first, "area")
    dx, dy = (_mean(last, axis) - _mean(first, axis) for axis in "xy")
    rows = np.array([m.y for m in moments])
    if _bounces(rows, abs(dx)):
        return "bounce"
    if max(abs(dx), abs(dy)) > MOVED:
        return ("left", "right")[dx > 0] if abs(dx) > abs(dy) else ("up", "down")[dy > 0]
    if growth > GROWN or growth < 1.0 / GROWN:
        return "grow" if growth > 1.0 else "shrink"
    return "turn" if _turn(moments, shape) > TURNED else None


def _bounces(rows: np.ndarray, sideways: float) -> bool:
    """Whether the height changes much, and back again."""
    path = np.abs(np.diff(rows)).sum()
    there = rows.max() - rows.min()
    return bool(there > BOUNCED and sideways < MOVED and path > 1.35 * abs(rows[-1] - rows[0]) and path > 1.2 * there)


def _turn(moments: list[_Moments], shape: str) -> float:
    """Degrees between the first and the last frame, followed from frame to frame; 0 for round shapes."""
    if shape not in SHAPES[1:3]:
        return 0.0
    n = 4 if shape == SHAPES[1] else 3
    phases = np.unwrap([np.angle(m.harmonics[n]) for m in moments])
    return float(abs(np.degrees(phases[-1] - phases[0])) / n)


def _mean(moments: list[_Moments], name: str) -> float:
    return float(np.mean([getattr(m, name) for m in moments]))
