"""The table of ops on a GPU: torch's, but for those that memory limits, which Triton does in a kernel or two each."""

import os
import warnings
from collections.abc import Mapping
from functools import cache

import torch

from mochi_aot.runtime.cache import cache_folder
from mochi_aot.runtime.torch.gpu.fusion import NORM_ADD, NORM_ROPE, NORM_SILU, SILU_MUL
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.types import Builder


@cache
def gpu_kernels() -> Mapping[str, Builder]:
    """Return the table of ops, with those of fusion.py. Where Triton cannot build kernels, as without a C compiler,
    that is a warning, and the table is torch's. What is built is kept in the folder of caches."""
    try:
        os.environ.setdefault("TRITON_CACHE_DIR", str(cache_folder() / "triton"))
        table = fused_kernels()
        _try(table)
    except Exception as error:  # noqa: BLE001  whatever Triton, a compiler or a driver raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"norms and rotary embeddings run unfused, which is slower: {reason}", stacklevel=2)
        return KERNELS
    return table


def _try(table: Mapping[str, Builder]) -> None:
    """Run each kernel once on the GPU."""
    x, scale, turns = (
        torch.ones(2, 3, 1, 4, device="cuda"),
        torch.ones(4, device="cuda"),
        torch.ones(3, 1, 2, device="cuda"),
    )
    table["rms_norm"]({"eps": 1e-6})(x)
    table["rope"]({})(x, turns, turns)
    table["group_norm"]({"groups": 2, "eps": 1e-6})(x.unsqueeze(1), scale, scale)
    table[NORM_SILU]({"groups": 2, "eps": 1e-6})(x.unsqueeze(1), scale, scale)
    table[SILU_MUL]({})(x, x)
    table[NORM_ADD]({"eps": 1e-6})(x, scale, x)
    table[NORM_ROPE]({"eps": 1e-6})(x, scale, turns, turns)


def fused_kernels() -> dict[str, Builder]:
    """Return the table of ops with Triton's kernels in it. Raise ImportError without Triton."""
    from mochi_aot.runtime.torch.gpu.fused_ops import FUSED_OPS

    return {**KERNELS, **FUSED_OPS}
