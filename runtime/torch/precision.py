"""Matrix products in bfloat16 on CPUs that have no instructions for it."""

from typing import Any

import torch

from mochi_aot.runtime.torch.types import Kernel

_HAS_BFLOAT16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def widened(fn: Kernel) -> Kernel:
    """Return `fn`; where the CPU has no bfloat16 instructions, `fn` in float32 for bfloat16 tensors on the CPU.

    torch's own fallback is about ten times slower there, and both accumulate in float32.
    """
    return fn if _HAS_BFLOAT16 else _in_float32(fn)


def _in_float32(fn: Kernel) -> Kernel:
    def call(*tensors: torch.Tensor) -> Any:
        x = tensors[0]
        if x.dtype is torch.bfloat16 and x.device.type == "cpu":
            return fn(*(tensor.float() for tensor in tensors)).bfloat16()
        return fn(*tensors)

    return call
