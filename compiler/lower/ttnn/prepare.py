"""How a parameter's local tensor becomes what a ttnn op wants, before it is laid out in tiles."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.lower.ttnn.prepare_video import (
    conv3d,
    nonzero_row,
    of_pixels,
    row_of_pixels,
    unfolded,
    unfolded_row,
)


@dataclass(frozen=True)
class Preparation:
    """A function of a local tensor, and of `numbers`. Its text is part of the names of weights in bundles."""

    name: str
    function: Callable[..., torch.Tensor]
    numbers: tuple[int, ...] = ()

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.function(tensor, *self.numbers)

    def __str__(self) -> str:
        return ":".join((self.name, *map(str, self.numbers)))


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as it is."""
    return tensor


def transposed(weight: torch.Tensor) -> torch.Tensor:
    """Return a linear's weight [outputs, inputs] as ttnn's [inputs, outputs]."""
    return weight.T.contiguous()


def row(vector: torch.Tensor) -> torch.Tensor:
    """Return a bias or a norm's weight [n] as [1, n]."""
    return vector.reshape(1, -1)


def share(bias: torch.Tensor, chips: int) -> torch.Tensor:
    """Return a chip's share of a bias [n] that all `chips` add, as [1, n]."""
    return row(bias / chips)


def swiglu(weight: torch.Tensor) -> torch.Tensor:
    """Return [gate; up] rows, [2 h, inputs], as [inputs, 2 h] whose column tiles alternate gate and up
    (minimal_matmul's fuse_swiglu)."""
    gate, up = (half.reshape(-1, TILE_SIZE, weight.shape[1]) for half in weight.chunk(2))
    return torch.stack([gate, up], dim=1).reshape(weight.shape).T.contiguous()


def rope(table: torch.Tensor) -> torch.Tensor:
    """Return cosines or sines [N, H, D / 2] as [1, H, N, D], each for both members of its pair."""
    return table.permute(1, 0, 2).repeat_interleave(2, dim=-1).unsqueeze(0).contiguous()


PLAIN = Preparation("plain", plain)
TRANSPOSED = Preparation("transposed", transposed)
ROW = Preparation("row", row)
SWIGLU = Preparation("swiglu", swiglu)
ROPE = Preparation("rope", rope)
CONV3D = Preparation("conv3d", conv3d)
NONZERO_ROW = Preparation("nonzero_row", nonzero_row)


def share_for(chips: int) -> Preparation:
    """Return the preparation of a bias that all `chips` add."""
    return Preparation("share", share, (chips,))


def unfolded_by(factor: int) -> Preparation:
    """Return the preparation of a linear's weight each of whose pixels becomes `factor` pixels."""
    return Preparation("unfolded", unfolded, (factor,))


def for_pixels(pixels: int, colours: int) -> Preparation:
    """Return the preparation of the weight of a product of so many pixels at once, of parts of so many colours."""
    return Preparation("of_pixels", of_pixels, (pixels, colours))


def row_for_pixels(pixels: int) -> Preparation:
    """Return the preparation of the bias that goes with such a weight."""
    return Preparation("row_of_pixels", row_of_pixels, (pixels,))


def unfolded_row_by(factor: int) -> Preparation:
    """Return the preparation of the bias that goes with such a weight."""
    return Preparation("unfolded_row", unfolded_row, (factor,))
