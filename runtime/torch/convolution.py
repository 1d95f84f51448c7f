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
        x = x.permute(0, 4, 1, 2, 3)
        if any(padding):
            x = F.pad(x, padding, mode="replicate")
        return _conv3d(x, w, bias, stride).permute(0, 2, 3, 4, 1)

    return widened(convolve)


def _conv3d(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, stride: list[int]) -> torch.Tensor:
    if _HAS_MKLDNN and x.device.type == "cpu" and x.dtype is torch.float32:
        # What F.conv3d calls for large inputs. For small ones it takes another kernel, up to ten times slower, whose
        # result is not channels-last.
        return torch.mkldnn_convolution(x, w, bias, (0, 0, 0), stride, (1, 1, 1), 1)
    return F.conv3d(x, w, bias, stride)


CONVOLUTION: dict[str, Builder] = {"causal_conv3d": _causal_conv3d}
