"""Convolution over frames, and the exchange of borders it needs. ttnn defines neither in torch."""

from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional as F

from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.local import local, require_known
from tests.ttnn_golden.types import Attrs, Golden, GoldenError, Value


def _conv3d(attrs: Attrs, x: Tensor, weight: Tensor, bias_tensor: Tensor | None = None) -> Tensor:
    """x [N, D, H, W, C] with a weight [kD * kH * kW * C, O] as ttnn's prepare_conv3d_weights orders it.

    C is rounded up to whole tiles there, with weights of zero. `padding` is on both sides of D, H and W.
    """
    kernel = unprepared(weight, attrs["output_channels"], attrs["kernel_size"], attrs.get("c_in_block", 0))
    x = F.pad(x, (0, kernel.shape[1] - x.shape[-1])).permute(0, 4, 1, 2, 3)
    mode = {"zeros": "constant", "replicate": "replicate"}[attrs.get("padding_mode", "zeros")]
    both_sides = list(chain.from_iterable((n, n) for n in reversed(attrs.get("padding", [0, 0, 0]))))
    bias = None if bias_tensor is None else bias_tensor.reshape(-1)[: kernel.shape[0]]
    out = F.conv3d(F.pad(x, both_sides, mode=mode), kernel, bias, stride=attrs.get("stride", [1, 1, 1]))
    return out.permute(0, 2, 3, 4, 1)


def unprepared(weight: Tensor, outputs: int, kernel_size: list[int], block: int) -> Tensor:
    """The kernel [O, C, kD, kH, kW] of a weight whose rows run over blocks of channels, kD, kH, kW and the channels
    of a block; `block` 0 is one block with all channels."""
    depth, height, width = kernel_size
    rows = weight.reshape(-1, weight.shape[-1])[:, :outputs]
    channels = rows.shape[0] // (depth * height * width)
    block = block or channels
    kernel = rows.reshape(channels // block, depth, height, width, block, outputs)
    return kernel.permute(5, 0, 4, 1, 2, 3).reshape(outputs, channels, depth, height, width)


def _neighbor_pad(attrs: Attrs, mesh: Mesh, x: Value) -> list[Value]:
    """Each chip's piece with the borders of its neighbours along `axis`; at the edges of the mesh the chip's
    own border repeated, or zeros. All attributes but the mode are lists, of one dimension or of two done in turn."""
    require_known(attrs, "dim padding_left padding_right padding_mode axis")
    keys = ("dim", "padding_left", "padding_right", "axis")
    for dim, before, after, axis in zip(*(attrs[key] for key in keys), strict=True):
        padded = list(x)
        for group in mesh.groups(axis):
            pieces = [x[chip] for chip in group]
            for place, chip in enumerate(group):
                padded[chip] = _with_borders(pieces, place, dim, before, after, attrs["padding_mode"])
        x = padded
    return [x]


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


VIDEO: dict[str, Golden] = {
    "experimental.conv3d": local(_conv3d, "output_channels kernel_size stride padding padding_mode c_in_block"),
    "experimental.neighbor_pad_async": _neighbor_pad,
}
