"""Ops by Triton's kernels, and by torch's where a kernel does not take the operands. Importing this needs Triton."""

import warnings
from functools import cache

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.float8 import has_float8, linear_float8
from mochi_aot.runtime.torch.gpu import fused
from mochi_aot.runtime.torch.gpu.fusion import NORM_ADD, NORM_ROPE, NORM_SILU, SILU_MUL
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


def _rms_norm(attrs: Attrs) -> Kernel:
    eps, plain = attrs["eps"], KERNELS["rms_norm"](attrs)

    def rms_norm(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        y = fused.rms_norm(x, scale, eps)
        return plain(x, *([] if scale is None else [scale])) if y is None else y

    return rms_norm


def _rms_norm_add(attrs: Attrs) -> Kernel:
    eps, plain = attrs["eps"], KERNELS["rms_norm"](attrs)

    def rms_norm_add(x: torch.Tensor, scale: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        y = fused.rms_norm(x, scale, eps, added)
        return plain(x, scale) + added if y is None else y

    return rms_norm_add


def _rms_norm_rope(attrs: Attrs) -> Kernel:
    eps, plain = attrs["eps"], KERNELS["rms_norm"](attrs)

    def rms_norm_rope(x: torch.Tensor, scale: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        if scale.shape == x.shape[-1:]:
            return fused.rope(x, cos, sin, scale, eps)
        return fused.rope(plain(x, scale), cos, sin)

    return rms_norm_rope


def _rope(attrs: Attrs) -> Kernel:
    return fused.rope


def _silu_mul(attrs: Attrs) -> Kernel:
    def silu_mul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        y = fused.silu_mul(a, b)
        return F.silu(a) * b if y is None else y

    return silu_mul


def _linear_float8(attrs: Attrs) -> Kernel:
    def by_kernel(
        x: torch.Tensor, w: torch.Tensor, scales: torch.Tensor, b: torch.Tensor | None = None
    ) -> torch.Tensor:
        return linear_float8(x, w, scales, b, fused.float8_rows(x) if _makes_float8(x.device) else None)

    return by_kernel


@cache
def _makes_float8(device: torch.device) -> bool:
    """Return whether Triton makes float8 there, by having it make some. Where torch alone can, that is a warning."""
    if not has_float8(device):
        return False
    try:
        fused.float8_rows(torch.ones(1, 16, device=device))
    except Exception as error:  # noqa: BLE001  whatever Triton, a compiler or a driver raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"rows become float8 unfused, which is slower: {reason}", stacklevel=2)
        return False
    return True


def _group_norm(attrs: Attrs) -> Kernel:
    groups, eps, plain = attrs["groups"], attrs["eps"], KERNELS["group_norm"](attrs)

    def group_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = fused.group_norm(x, weight, bias, groups, eps)
        return plain(x, weight, bias) if y is None else y

    return group_norm


def _group_norm_silu(attrs: Attrs) -> Kernel:
    groups, eps, plain = attrs["groups"], attrs["eps"], KERNELS["group_norm"](attrs)

    def group_norm_silu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = fused.group_norm(x, weight, bias, groups, eps, silu=True)
        return F.silu(plain(x, weight, bias)) if y is None else y

    return group_norm_silu


FUSED_OPS: dict[str, Builder] = {
    "rms_norm": _rms_norm,
    "rope": _rope,
    "group_norm": _group_norm,
    "linear_float8": _linear_float8,
    SILU_MUL: _silu_mul,
    NORM_ADD: _rms_norm_add,
    NORM_ROPE: _rms_norm_rope,
    NORM_SILU: _group_norm_silu,
}
