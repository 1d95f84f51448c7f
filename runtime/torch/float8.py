"""Products in float8: 8 bits a number, with a scale for each row of either operand.

Numbers are E4M3 ("FP8 Formats for Deep Learning", Micikevicius et al., 2022; torch.float8_e4m3fn). They have 3 bits of
fraction, so that a rounding is off by at most 2^-4 of a number, down to 2^-13 of the largest of its row. Rows have
scales of their own because tokens differ in size by orders of magnitude, and so do the outputs of a matrix. Scales are
powers of two, so that nothing else is rounded.
"""

import warnings
from functools import cache

import torch
import torch.nn.functional as F

FLOAT8 = torch.float8_e4m3fn
_BLOCK_ELEMENTS = 1 << 24  # of rows that are worked on at a time: 64 MiB in float32, of which there are three


def linear_float8(
    x: torch.Tensor,
    w: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None = None,
    rows: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Multiply x [..., k], whose rows become float8, by w [m, k], float8 with scales [m], and add bias [m]: [..., m].

    `rows` is what `quantised` makes of x [n, k], where that was made already.
    """
    values, row_scales = rows or quantised(x.reshape(-1, x.shape[-1]))
    return float8_product(values, row_scales, w, scales, bias, x.dtype).view(*x.shape[:-1], -1)


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows [n, k] in float8 and their scales, float32 [n, 1]: a number times its row's scale is near the row's.

    What is multiplied with a row that has a number that is not finite is NaN.
    """
    count = max(_BLOCK_ELEMENTS // max(rows.shape[1], 1), 1)
    if len(rows) <= count:
        return _quantised(rows)
    parts = [_quantised(block) for block in rows.split(count)]
    return torch.cat([values for values, _ in parts]), torch.cat([scales for _, scales in parts])


def _quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    exact = rows.float()
    largest = exact.abs().amax(-1, keepdim=True)
    scales = torch.where(torch.isfinite(largest), _scales(largest), largest)
    return (exact / scales).to(FLOAT8), scales


def _scales(largest: torch.Tensor) -> torch.Tensor:
    """Return the least powers of two, 2^-126 at least, by which numbers of float32 are at most 448, 1.75 * 2^8.

    By the bits: torch's own ops give powers of two that a GPU has rounded.
    """
    bits = largest.view(torch.int32)
    exponents = (bits >> 23) - 8 + ((bits & 0x7FFFFF) > 0x600000)
    return (exponents.clamp_min_(1) << 23).view(torch.float32)


def float8_product(
    x: torch.Tensor,
    x_scales: torch.Tensor,
    w: torch.Tensor,
    w_scales: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return x [n, k] times w [m, k], float8 both, with scales [n, 1] and [m], plus bias [m]: [n, m] in `dtype`.

    Products are exact, are added up in float32, and are rounded to `dtype` once, after scales and bias. GPUs without
    float8 round sums to bfloat16 before that, too.
    """
    if x.device.type != "cpu" and dtype is torch.bfloat16 and has_float8(x.device):
        return _scaled_mm(x, x_scales, w, w_scales, bias)
    wide = torch.float32 if x.device.type == "cpu" else torch.bfloat16  # either holds all numbers of float8
    y, matrix = torch.empty((len(x), len(w)), dtype=dtype, device=x.device), w.to(wide)
    count = max(_BLOCK_ELEMENTS // max(*w.shape), 1)
    for out, rows, scales in zip(*(part.split(count) for part in (y, x, x_scales)), strict=True):
        sums = F.linear(rows.to(wide), matrix) * scales * w_scales  # float32, as the scales are
        out.copy_(sums if bias is None else sums.add_(bias))
    return y


def _scaled_mm(
    x: torch.Tensor, x_scales: torch.Tensor, w: torch.Tensor, w_scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Multiply on what has units for float8: w is column-major as it lies, sizes are multiples of 16 by the compiler.

    Without fast accumulation, in which Hopper's units keep some 14 bits of a sum, and sums of 4096 products were seen
    to be off by 2 % ("DeepSeek-V3 Technical Report", 2024, 3.3.2): about as much as rounding the operands costs.
    """
    return torch._scaled_mm(
        x, w.t(), scale_a=x_scales, scale_b=w_scales[None], bias=bias, out_dtype=torch.bfloat16, use_fast_accum=False
    )


@cache
def has_float8(device: torch.device) -> bool:
    """Return whether a GPU makes products in float8, by making one: compute capability 8.9 or 9.0 at least, and kernels
    for scales of rows in this build of torch. Without them that is a warning."""
    ones, scales = torch.ones(16, 16, device=device).to(FLOAT8), torch.ones(16, device=device)
    try:
        _scaled_mm(ones, scales[:, None], ones, scales, None)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"products in float8 are made in bfloat16, which is slower: {reason}", stacklevel=2)
        return False
    return True
