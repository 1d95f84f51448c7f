"""Matrix products, reductions, RMS norm and rotary position embedding."""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.float8 import linear_float8
from mochi_aot.runtime.torch.precision import widened
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


def _linear(attrs: Attrs) -> Kernel:
    return widened(F.linear)


def _linear_float8(attrs: Attrs) -> Kernel:
    return linear_float8


def _matmul(attrs: Attrs) -> Kernel:
    return widened(torch.matmul)


def _sum(attrs: Attrs) -> Kernel:
    dims, keepdim = attrs["dims"], attrs["keepdim"]
    return lambda a: torch.sum(a, dims, keepdim)


def _mean(attrs: Attrs) -> Kernel:
    dims, keepdim = attrs["dims"], attrs["keepdim"]
    return lambda a: torch.mean(a, dims, keepdim)


def _softmax(attrs: Attrs) -> Kernel:
    dim = attrs["dim"]
    return lambda a: torch.softmax(a, dim)


def _rms_norm(attrs: Attrs) -> Kernel:
    """Return x [..., D] * rsqrt(mean(x^2) + eps) * scale, in float32, rounded once to x's dtype."""
    eps = attrs["eps"]

    def rms_norm(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        # The norm reads x once and allocates one number a row; squaring x would allocate another x.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        y: torch.Tensor = x * norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        if scale is not None:
            y.mul_(scale)
        return y.to(x.dtype)

    return rms_norm


def _rope(attrs: Attrs) -> Kernel:
    """Turn each pair (x[2i], x[2i+1]) of x [B,N,H,Dh] by the angle of cos, sin [N,H,Dh/2] float32, in float32."""

    def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        # A pair is a complex number; one complex product is three times faster than four strided real ones.
        pairs = torch.view_as_complex(x.float().contiguous().view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)

    return rope


NN: dict[str, Builder] = {
    "linear": _linear,
    "linear_float8": _linear_float8,
    "matmul": _matmul,
    "sum": _sum,
    "mean": _mean,
    "softmax": _softmax,
    "rms_norm": _rms_norm,
    "rope": _rope,
}
