"""Clips to pixels, many at once and on any device, with smooth edges."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mochi_aot.tools.training.grammar import GROUNDS, SHAPES
from mochi_aot.tools.training.scenes import HEIGHT, WIDTH

HALF_ROOT_3 = 0.8660254
# Sizes of the shapes, in radii.
SQUARE_HALF_SIDE, TRIANGLE_INRADIUS, RING_MIDDLE, RING_HALF_WIDTH = 0.8862, 0.75, 0.83, 0.27


def render(arrays: Mapping[str, np.ndarray], device: torch.device) -> Tensor:
    """Videos of `clip_arrays`: float32 [n, F, H, W, 3], -1 to 1."""
    on = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    y = torch.arange(HEIGHT, dtype=torch.float32, device=device).add(0.5).reshape(-1, 1)
    x = torch.arange(WIDTH, dtype=torch.float32, device=device).add(0.5).reshape(1, -1)
    ground = _ground(on["ground"], on["wave"], on["ground_kind"], x, y)  # [n, 1, H, W, 3]
    count, frames = on["track"].shape[0], on["track"].shape[-1]
    video = ground.new_empty(count, frames, HEIGHT, WIDTH, 3)
    for clip, kind in enumerate(arrays["shape"].tolist()):  # one at a time, so that a CPU's caches hold it
        inside = (0.5 - _DISTANCES[SHAPES[kind]](*on["track"][clip], x, y)).clamp_(0.0, 1.0).unsqueeze(-1)
        torch.lerp(ground[clip], on["colour"][clip].expand_as(ground[clip]), inside, out=video[clip])
    return video.mul_(2.0).sub_(1.0)


def _from_centre(centre_x: Tensor, centre_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x - _plane(centre_x), y - _plane(centre_y))


def _turned(centre_x: Tensor, centre_y: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = x - _plane(centre_x), y - _plane(centre_y)
    cos, sin = _plane(torch.cos(angle)), _plane(torch.sin(angle))
    return cos * dx + sin * dy, cos * dy - sin * dx


def _plane(values: Tensor) -> Tensor:
    return values[:, None, None]


# Pixels from the edge of the shape, negative inside (near its corners a lower bound): [F, H, W].
# The arguments are x, y, radius and angle of the track, each [F], and the columns and rows of the picture.
def _circle(cx: Tensor, cy: Tensor, radius: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return _from_centre(cx, cy, x, y) - _plane(radius)


def _square(cx: Tensor, cy: Tensor, radius: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    u, v = _turned(cx, cy, angle, x, y)
    return torch.maximum(u.abs(), v.abs()) - _plane(SQUARE_HALF_SIDE * radius)


def _triangle(cx: Tensor, cy: Tensor, radius: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    u, v = _turned(cx, cy, angle, x, y)
    return torch.maximum(v, HALF_ROOT_3 * u.abs() - 0.5 * v) - _plane(TRIANGLE_INRADIUS * radius)


def _ring(cx: Tensor, cy: Tensor, radius: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    off_middle = (_from_centre(cx, cy, x, y) - _plane(RING_MIDDLE * radius)).abs()
    return off_middle - _plane(RING_HALF_WIDTH * radius)


_DISTANCES: dict[str, Callable[..., Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
}


def _ground(ground: Tensor, wave: Tensor, kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the background: one tone, a slope from one side to the other, or stripes: [n, 1, H, W, 3]"""
    cos, sin, amplitude, period, phase = (value.reshape(-1, 1, 1, 1) for value in wave.unbind(1))
    along = cos * (x - WIDTH / 2) + sin * (y - HEIGHT / 2)
    slope = along / (cos.abs() * WIDTH / 2 + sin.abs() * HEIGHT / 2)
    # A triangle wave made steep and cut: stripes whose edges are about two pixels wide.
    triangle = 4.0 * ((along / period + phase) % 1.0 - 0.5).abs() - 1.0
    stripes = (triangle * period / 4.0).clamp(-1.0, 1.0)
    kind = kind.reshape(-1, 1, 1, 1)
    pattern = torch.where(kind == GROUNDS.index("striped"), stripes, slope)
    tone = ground.reshape(-1, 1, 1, 1, 3) + (amplitude * pattern).unsqueeze(-1)
    return tone.clamp(0.0, 1.0)
