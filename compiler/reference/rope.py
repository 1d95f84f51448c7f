"""Three-dimensional rotary positions of the visual tokens, with learned frequencies."""

import math

import torch
from torch import Tensor

BASE_AREA = 192 * 192  # in patches: the area whose positions are neither stretched nor shrunk


def rope_tables(pos_frequencies: Tensor, latent_size: tuple[int, int, int], patch: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of every token's rotation angles.

    pos_frequencies: float32 [3, H, Dh/2]; latent_size: (T, h, w). Return two float32 [N, H, Dh/2].
    """
    frames, height, width = latent_size
    _, heads, pairs = pos_frequencies.shape
    positions = token_positions(frames, height // patch, width // patch, pos_frequencies.device)
    angles = (positions @ pos_frequencies.reshape(3, heads * pairs)).reshape(-1, heads, pairs)
    return torch.cos(angles), torch.sin(angles)


def token_positions(frames: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Return the position (t, y, x) of every token: float32 [frames * rows * columns, 3].

    Time counts frames. Space is centred at zero and scaled so that every aspect ratio and resolution covers BASE_AREA.
    """
    spacing = math.sqrt(BASE_AREA / (rows * columns))
    t = torch.arange(frames, dtype=torch.float32, device=device).reshape(frames, 1, 1)
    y = centred(rows, spacing, device).reshape(1, rows, 1)
    x = centred(columns, spacing, device).reshape(1, 1, columns)
    grid = [axis.expand(frames, rows, columns) for axis in (t, y, x)]
    return torch.stack(grid, dim=-1).reshape(-1, 3)


def centred(count: int, spacing: float, device: torch.device | None = None) -> Tensor:
    """Return `count` points `spacing` apart, around zero."""
    return (torch.arange(count, dtype=torch.float32, device=device) - (count - 1) / 2) * spacing
