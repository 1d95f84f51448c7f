"""Causal 3-D convolution on channels-last activations."""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.precision import widened
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel

_HAS_MKLDNN = torch.backends.mkldnn.is_available()


def _causal_conv3d(attrs: Attrs) -> Kernel:
    """Convolve x [B,T,H,W,C] by w [O,C,kt,kh,kw], plus bias [O], to [B,T',H',W',O].

    x is replicated at its borders by attrs["padding"].
    """
    stride = attrs["stride"]
    front, top, bottom, left, right = attrs["padding"]
    padding = (left, right, top, bottom, front, 0)

    def convolve(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if x.is_cuda:
            x = replicated(x, [(front, 0), (top, bottom), (left, right)]).permute(0, 4, 1, 2, 3)
        else:
            x = x.permute(0, 4, 1, 2, 3)
            x = F.pad(x, padding, mode="replicate") if any(padding) else x
        return _conv3d(x, w, bias, stride).permute(0, 2, 3, 4, 1)

    return widened(convolve)


def _conv3d(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, stride: list[int]) -> torch.Tensor:
    if _HAS_MKLDNN and x.device.type == "cpu" and x.dtype is torch.float32:
        # What F.conv3d calls for large inputs. For small ones it takes another kernel, up to ten times slower, whose
        # result is not channels-last.
        return torch.mkldnn_convolution(x, w, bias, (0, 0, 0), stride, (1, 1, 1), 1)
    return F.conv3d(x, w, bias, stride)


def replicated(x: torch.Tensor, padding: list[tuple[int, int]]) -> torch.Tensor:
    """Return x [B,T,H,W,C] with its borders repeated: so many positions before and after, along T, H and W.

    GPUs' own padding wants channels before T, which would have cuDNN's kernels work in that slower order too.
    """
    if not any(before or after for before, after in padding):
        return x
    sizes = [size + before + after for size, (before, after) in zip(x.shape[1:4], padding, strict=True)]
    out = x.new_empty((x.shape[0], *sizes, x.shape[4]))
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(x.shape[1:4], padding, strict=True))
    out[(slice(None), *inside)] = x
    _repeat_border(out[:, inside[0], inside[1]], 3, *padding[2])
    _repeat_border(out[:, inside[0]], 2, *padding[1])
    _repeat_border(out, 1, *padding[0])
    return out


def _repeat_border(out: torch.Tensor, dim: int, before: int, after: int) -> None:
    """Fill the first and the last positions of a dimension with what lies beside them."""
    stop = out.shape[dim] - after
    if before:
        out.narrow(dim, 0, before).copy_(out.narrow(dim, before, 1).expand_as(out.narrow(dim, 0, before)))
    if after:
        out.narrow(dim, stop, after).copy_(out.narrow(dim, stop - 1, 1).expand_as(out.narrow(dim, stop, after)))


CONVOLUTION: dict[str, Builder] = {"causal_conv3d": _causal_conv3d}
