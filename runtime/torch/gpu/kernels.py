"""The table of ops on a GPU: torch's, but for those that are memory's alone, which Triton does in one kernel each."""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import torch

from mochi_aot.runtime.cache import cache_folder
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel


@cache
def gpu_kernels() -> Mapping[str, Builder]:
    """Return the table of ops. Where Triton cannot build kernels, as without a C compiler, that is a warning, and torch
    computes all of them. What is built is kept in the folder of caches."""
    try:
        os.environ.setdefault("TRITON_CACHE_DIR", str(cache_folder() / "triton"))
        table = fused_kernels()
        x = torch.ones(2, 3, 1, 4, device="cuda")
        turns = torch.ones(3, 1, 2, device="cuda")
        table["rms_norm"]({"eps": 1e-6})(x)
        table["rope"]({})(x, turns, turns)
        table["group_norm"]({"groups": 2, "eps": 1e-6})(x.unsqueeze(1), x[0, 0, 0], x[0, 0, 0])
    except Exception as error:  # noqa: BLE001  whatever Triton, a compiler or a driver raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"norms and rotary embeddings run unfused, which is slower: {reason}", stacklevel=2)
        return KERNELS
    return table


def fused_kernels() -> dict[str, Builder]:
    """Return the table of ops with Triton's kernels in it. Raise ImportError without Triton."""
    from mochi_aot.runtime.torch.gpu import fused

    def rms_norm(attrs: Attrs) -> Kernel:
        eps, plain = attrs["eps"], KERNELS["rms_norm"](attrs)

        def norm(x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
            y = fused.rms_norm(x, scale, eps)
            return plain(x, *([] if scale is None else [scale])) if y is None else y

        return norm

    def rope(attrs: Attrs) -> Callable[..., torch.Tensor]:
        return fused.rope

    def group_norm(attrs: Attrs) -> Kernel:
        groups, eps, plain = attrs["groups"], attrs["eps"], KERNELS["group_norm"](attrs)

        def norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            y = fused.group_norm(x, weight, bias, groups, eps)
            return plain(x, weight, bias) if y is None else y

        return norm

    return {**KERNELS, "rms_norm": rms_norm, "rope": rope, "group_norm": group_norm}
