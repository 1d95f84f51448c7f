"""How long each of torch's kernels takes for one layer's attention: by it the runtime's order of them is judged."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mochi_aot.runtime.torch.gpu.device import ATTENTION_ORDER
from mochi_aot.tools.benchmarks.guided_steps import PROMPT_TOKENS


def attention_runs(
    tokens: int, heads: int, width: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return, by the kernel's name, what attends with one row's visual tokens and the words of a prompt, to the end.

    The kernel that writes all scores to memory is left out. Each raises RuntimeError where it does not take the
    operands.
    """
    shape = (1, tokens + PROMPT_TOKENS, heads, width)
    q, k, v = (torch.randn(shape, dtype=dtype, device=device).transpose(1, 2) for _ in range(3))

    def attend(kernel: SDPBackend) -> torch.Tensor:
        with torch.inference_mode(), sdpa_kernel(kernel):
            out = F.scaled_dot_product_attention(q, k, v)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return out

    kernels = [kernel for kernel in ATTENTION_ORDER if kernel is not SDPBackend.MATH]
    return {kernel.name.lower().replace("_", " "): partial(attend, kernel) for kernel in kernels}
