"""Ops by Triton's kernels, and by torch's where a kernel does not take the operands. Importing this needs Triton."""

import torch
import torch.nn.functional as F

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
    SILU_MUL: _silu_mul,
    NORM_ADD: _rms_norm_add,
    NORM_ROPE: _rms_norm_rope,
    NORM_SILU: _group_norm_silu,
}
