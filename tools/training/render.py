"""Clips to pixels, many at once and on any device, with smooth edges."""

from collections.abc import Mapping

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
    inside = (0.5 - _distance(on["track"], on["shape"], x, y)).clamp(0.0, 1.0).unsqueeze(-1)  # [n, F, H, W, 1]
    ground = _ground(on["ground"], on["wave"], on["ground_kind"], x, y)  # [n, 1, H, W, 3]
    colour = on["colour"].reshape(-1, 1, 1, 1, 3)
    return (ground + (colour - ground) * inside) * 2.0 - 1.0


def _distance(track: Tensor, shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Pixels from the edge of the shape, negative inside (near its corners a lower bound): [n, F, H, W]"""
    centre_x, centre_y, radius, angle = (value[..., None, None] for value in track.unbind(1))
    dx, dy = x - centre_x, y - centre_y
    cos, sin = torch.cos(angle), torch.sin(angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    from_centre = torch.sqrt(dx * dx + dy * dy)
    square = torch.maximum(u.abs(), v.abs()) - SQUARE_HALF_SIDE * radius
    triangle = torch.maximum(v, HALF_ROOT_3 * u.abs() - 0.5 * v) - TRIANGLE_INRADIUS * radius
    ring = (from_centre - RING_MIDDLE * radius).abs() - RING_HALF_WIDTH * radius
    distances = {"circle": from_centre - radius, "square": square, "triangle": triangle, "ring": ring}
    kind = shape.reshape(-1, 1, 1, 1)
    result = distances[SHAPES[0]]
    for index, name in enumerate(SHAPES[1:], start=1):
        result = torch.where(kind == index, distances[name], result)
    return result


def _ground(ground: Tensor, wave: Tensor, kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The background: one tone, a slope from one side to the other, or stripes: [n, 1, H, W, 3]"""
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
