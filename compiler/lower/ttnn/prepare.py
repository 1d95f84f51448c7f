"""How a parameter's local tensor becomes what a ttnn op wants, before it is laid out in tiles."""

from collections.abc import Callable

import torch

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.lower.ttnn.prepare_video import conv3d, nonzero_row, unfolded, unfolded_row


def transposed(weight: torch.Tensor) -> torch.Tensor:
    """A linear's weight [outputs, inputs] as ttnn's [inputs, outputs]."""
    return weight.T.contiguous()


def row(vector: torch.Tensor) -> torch.Tensor:
    """A bias or a norm's weight [n] as [1, n]."""
    return vector.reshape(1, -1)


def share(bias: torch.Tensor, chips: int) -> torch.Tensor:
    """A chip's share of a bias [n] that all `chips` add, as [1, n]."""
    return row(bias / chips)


def swiglu(weight: torch.Tensor) -> torch.Tensor:
    """[gate; up] rows, [2 h, inputs], as [inputs, 2 h] whose column tiles alternate gate and up (minimal_matmul's
    fuse_swiglu)."""
    gate, up = (half.reshape(-1, TILE_SIZE, weight.shape[1]) for half in weight.chunk(2))
    return torch.stack([gate, up], dim=1).reshape(weight.shape).T.contiguous()


def rope(table: torch.Tensor) -> torch.Tensor:
    """Cosines or sines [N, H, D / 2] as [1, H, N, D], each for both members of its pair."""
    return table.permute(1, 0, 2).repeat_interleave(2, dim=-1).unsqueeze(0).contiguous()


PREPARATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "plain": lambda tensor: tensor,
    "transposed": transposed,
    "row": row,
    "share": share,
    "swiglu": swiglu,
    "rope": rope,
    "conv3d": conv3d,
    "nonzero_row": nonzero_row,
    "unfolded": unfolded,
    "unfolded_row": unfolded_row,
}


def prepared(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` by the preparation of this name; numbers that it takes follow the name after colons."""
    kind, *numbers = name.split(":")
    return PREPARATIONS[kind](tensor, *map(int, numbers))
