"""How the parameters of the video autoencoder become what ttnn's ops want."""

from dataclasses import dataclass

import torch

from mochi_aot.artifacts.tiles import TILE_SIZE

SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class ConvBlocks:
    """What a core computes at a time of a 3 x 3 x 3 convolution: channels in and out, frames and their pixels."""

    inputs: int
    outputs: int
    frames: int
    height: int
    width: int


def conv_blocks(inputs: int, outputs: int) -> ConvBlocks:
    """Return blocks that a core's L1 has room for. Channels are whole tiles.

    32 pixels, as Tenstorrent's own models take (tt-metal, models/tt_dit, where chips were seen to hang with more). Of
    more than 128 inputs, those models take 128 in a block. Of 512 or 256 channels that is more than a core has room for
    beside semaphores (docs/ttnn.md): where inputs need several blocks, partial sums take up room as well.
    """
    if inputs <= 128:
        return ConvBlocks(inputs, _largest_block(outputs, 128), 1, 4, 8)
    return ConvBlocks(_largest_block(inputs, 64), _largest_block(outputs, 128), 1, 8, 4)


def _largest_block(channels: int, most: int) -> int:
    """Return the largest whole number of tiles, `most` at most, that divides `channels`."""
    return max(n for n in range(TILE_SIZE, most + 1, TILE_SIZE) if channels % n == 0)


def conv3d(weight: torch.Tensor) -> torch.Tensor:
    """Return [O, C, kt, kh, kw] as [C * kt * kh * kw, O]: for each block of channels, each place of the kernel, its
    channels.

    This is what ttnn's prepare_conv3d_weights makes.
    """
    outputs, inputs, *kernel = weight.shape
    block = conv_blocks(inputs, outputs).inputs
    blocks = weight.reshape(outputs, inputs // block, block, *kernel)
    return blocks.permute(1, 3, 4, 5, 2, 0).reshape(-1, outputs).contiguous()


def unfolded(weight: torch.Tensor, factor: int) -> torch.Tensor:
    """Return a linear's weight [C * factor, inputs] as ttnn's [inputs, factor * C]."""
    return _pixels_first(weight, factor).T.contiguous()


def unfolded_row(bias: torch.Tensor, factor: int) -> torch.Tensor:
    """Return a bias [C * factor] as [1, factor * C]."""
    return _pixels_first(bias, factor).reshape(1, -1)


def of_pixels(weight: torch.Tensor, pixels: int, colours: int) -> torch.Tensor:
    """Return a linear's weight [outputs, parts * colours] as [parts * pixels * colours, pixels * outputs], which makes
    each pixel's outputs of its own colours."""
    outputs, inputs = weight.shape
    parts = weight.T.reshape(inputs // colours, 1, colours, 1, outputs)
    own = torch.eye(pixels, dtype=weight.dtype, device=weight.device).reshape(1, pixels, 1, pixels, 1)
    return (parts * own).reshape(inputs * pixels, pixels * outputs).contiguous()


def row_of_pixels(bias: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return a bias [outputs] as [1, pixels * outputs]."""
    return bias.repeat(pixels).reshape(1, -1)


def _pixels_first(rows: torch.Tensor, factor: int) -> torch.Tensor:
    """Return rows for each channel and each of the `factor` pixels it makes, as rows for each pixel and its
    channels."""
    return rows.reshape(-1, factor, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def nonzero_row(scale: torch.Tensor) -> torch.Tensor:
    """Return a norm's weight [n] as [1, n], of which none is too small to divide by."""
    return torch.where(scale.abs() < SMALLEST_SCALE, SMALLEST_SCALE, scale.float()).reshape(1, -1)
