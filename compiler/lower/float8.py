"""Matrices in float8, as compiler.ir.numpy_values.quantised defines them, by torch."""

import torch

from mochi_aot.compiler.ir.numpy_values import FLOAT8_LEAST_SCALE, FLOAT8_MAX
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows [n, k] in float8, and their scales, float32 [n]."""
    exact = rows.float()
    scales = exact.abs().amax(-1, keepdim=True).mul_(1 / FLOAT8_MAX).clamp_min_(FLOAT8_LEAST_SCALE)
    # A quotient may be rounded to more than 448, which older versions of torch make NaN of.
    values = (exact / scales).clamp_(-FLOAT8_MAX, FLOAT8_MAX).to(TORCH_DTYPES["float8"])
    return values, scales[:, 0]
