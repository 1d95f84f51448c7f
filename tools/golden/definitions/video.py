"""Convolution over frames, and the exchange of borders it needs. ttnn defines neither in torch."""

from itertools import chain
from typing import Any

import torch
import ttnn
from torch import Tensor
from torch.nn import functional as F

from mochi_aot.tools.golden.local import on_each_chip
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition, GoldenError, Value


def _conv3d(
    mesh: ChipMesh,
    *,
    input_tensor: Chips,
    weight_tensor: Chips,
    bias_tensor: Chips | None = None,
    device: ChipMesh,
    config: ttnn.Conv3dConfig,
    dtype: ttnn.DataType,
    compute_kernel_config: ttnn.WormholeComputeKernelConfig,
    output_channels: int,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    padding_mode: str,
) -> Any:
    """x [N, D, H, W, C] with a weight [kD * kH * kW * C, O] as ttnn's prepare_conv3d_weights orders it, by blocks of
    config.C_in_block channels.

    C is rounded up to whole tiles there, with weights of zero. `padding` is on both sides of D, H and W.
    """
    mode = {"zeros": "constant", "replicate": "replicate"}[padding_mode]
    both_sides = list(chain.from_iterable((n, n) for n in reversed(padding)))

    def call(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        kernel = unprepared(weight, output_channels, kernel_size, config.C_in_block)
        x = F.pad(x, (0, kernel.shape[1] - x.shape[-1])).permute(0, 4, 1, 2, 3)
        row = None if bias is None else bias.reshape(-1)[:output_channels]
        return F.conv3d(F.pad(x, both_sides, mode=mode), kernel, row, stride=stride).permute(0, 2, 3, 4, 1)

    operands = [input_tensor, weight_tensor, *([] if bias_tensor is None else [bias_tensor])]
    return on_each_chip(mesh, call, operands, {}, dtype, ttnn.ROW_MAJOR_LAYOUT)


def unprepared(weight: Tensor, outputs: int, kernel_size: list[int], block: int) -> Tensor:
    """Return the kernel [O, C, kD, kH, kW] of a weight whose rows run over blocks of channels, kD, kH, kW and the
    channels of a block; `block` 0 is one block with all channels."""
    depth, height, width = kernel_size
    rows = weight.reshape(-1, weight.shape[-1])[:, :outputs]
    channels = rows.shape[0] // (depth * height * width)
    block = block or channels
    kernel = rows.reshape(channels // block, depth, height, width, block, outputs)
    return kernel.permute(5, 0, 4, 1, 2, 3).reshape(outputs, channels, depth, height, width)


def _neighbor_pad(
    mesh: ChipMesh,
    x: Chips,
    *,
    dim: list[int],
    padding_left: list[int],
    padding_right: list[int],
    padding_mode: str,
    cluster_axis: list[int],
    neighbor_semaphore: list[Any],
    barrier_semaphore: list[Any],
    num_links: list[int],
    topology: ttnn.Topology = ttnn.Topology.Linear,
) -> Chips:
    """Each chip's piece with the borders of its neighbours along `cluster_axis`; at the edges of the mesh the chip's
    own border repeated, or zeros. The lists have an item for each of one dimension, or of two done in turn."""
    require_line(topology)
    if (len(neighbor_semaphore), len(barrier_semaphore), len(num_links)) != (len(dim), 1, len(dim)):
        raise GoldenError("neighbor_pad_async: expected a semaphore and links for each dimension, and one barrier")
    pieces = x.pieces
    for at, before, after, axis in zip(dim, padding_left, padding_right, cluster_axis, strict=True):
        padded = list(pieces)
        for group in mesh.groups(axis):
            members = [pieces[chip] for chip in group]
            for place, chip in enumerate(group):
                padded[chip] = _with_borders(members, place, at, before, after, padding_mode)
        pieces = padded
    return Chips(pieces, x.dtype, x.layout)


def require_line(topology: ttnn.Topology) -> None:
    """GoldenError for a ring of chips: the first and the last of a row of the mesh are not neighbours."""
    if topology != ttnn.Topology.Linear:
        raise GoldenError(f"chips in a {topology}, where the fabric is of lines")


def _with_borders(pieces: Value, place: int, dim: int, before: int, after: int, mode: str) -> Tensor:
    piece = pieces[place]
    extent = piece.shape[dim]
    if max(before, after) > extent:
        raise GoldenError(f"neighbor_pad_async: borders of {before} and {after} of an extent of {extent}")
    left = pieces[place - 1].narrow(dim, extent - before, before) if place else _edge(piece, dim, 0, before, mode)
    last = place == len(pieces) - 1
    right = _edge(piece, dim, extent - 1, after, mode) if last else pieces[place + 1].narrow(dim, 0, after)
    return torch.cat([left, piece, right], dim=dim)


def _edge(piece: Tensor, dim: int, index: int, count: int, mode: str) -> Tensor:
    repeated = piece.narrow(dim, index, 1).repeat_interleave(count, dim=dim)
    return {"replicate": repeated, "zeros": torch.zeros_like(repeated)}[mode]


THEIRS: dict[str, Definition] = {}
OURS: dict[str, Definition] = {"experimental.conv3d": _conv3d, "experimental.neighbor_pad_async": _neighbor_pad}
