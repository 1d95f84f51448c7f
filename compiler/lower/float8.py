"""Matrices in float8, as compiler.ir.numpy_values.quantised defines them, by torch."""

import torch

from mochi_aot.compiler.ir.numpy_values import FLOAT8_LEAST_EXPONENT, FLOAT8_MAX
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return finite rows [n, k] in float8, and their scales, float32 [n]."""
    exact = rows.float()
    fractions, exponents = torch.frexp(exact.abs().amax(-1).clamp_min_(2.0**FLOAT8_LEAST_EXPONENT))
    exponents = (exponents - 9 + (fractions > FLOAT8_MAX / 512)).clamp_min_(FLOAT8_LEAST_EXPONENT)
    scales = (exponents + 127 << 23).view(torch.float32)  # by their bits: torch's powers of two may be rounded
    return (exact / scales[:, None]).to(TORCH_DTYPES["float8"]), scales
