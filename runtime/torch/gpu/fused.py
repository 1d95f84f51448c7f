"""RMS norm and rotary position embedding, each in one Triton kernel: every number is read once and written once.

Both are limited by memory, and torch's own ops, of which each would need several, write float32 in between.
"""

import torch
import triton
import triton.language as tl

_TILE = 4096  # numbers that a program of the grid works on, or one row of more
_WIDEST = 16384  # a row that one program can hold


@triton.jit
def _rms_norm_rows(
    x_ptr,
    scale_ptr,
    y_ptr,
    rows,
    inner,
    outer_stride,
    inner_stride,
    rows_per_scale,
    eps,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
    scaled: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    there = (row < rows)[:, None] & (column < width)[None, :]
    start = (row // inner) * outer_stride + (row % inner) * inner_stride
    x = tl.load(x_ptr + start[:, None] + column[None, :], mask=there, other=0.0).to(tl.float32)
    mean_square = tl.sum(x * x, axis=1) / width
    y = x * (1.0 / tl.sqrt(mean_square + eps))[:, None]
    if scaled:
        scale_start = (row // rows_per_scale) * width
        scale = tl.load(scale_ptr + scale_start[:, None] + column[None, :], mask=there, other=0.0)
        y = y * scale.to(tl.float32)
    tl.store(y_ptr + (row * width)[:, None] + column[None, :], y.to(y_ptr.dtype.element_ty), mask=there)


@triton.jit
def _rope_rows(
    x_ptr,
    cos_ptr,
    sin_ptr,
    y_ptr,
    rows,
    inner,
    outer_stride,
    inner_stride,
    table_rows,
    pairs: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    pair = tl.arange(0, columns)
    there = (row < rows)[:, None] & (pair < pairs)[None, :]
    source = ((row // inner) * outer_stride + (row % inner) * inner_stride)[:, None] + 2 * pair[None, :]
    even = tl.load(x_ptr + source, mask=there, other=0.0).to(tl.float32)
    odd = tl.load(x_ptr + source + 1, mask=there, other=0.0).to(tl.float32)
    table = ((row % table_rows) * pairs)[:, None] + pair[None, :]
    cos = tl.load(cos_ptr + table, mask=there, other=0.0)
    sin = tl.load(sin_ptr + table, mask=there, other=0.0)
    target = (row * 2 * pairs)[:, None] + 2 * pair[None, :]
    tl.store(y_ptr + target, (even * cos - odd * sin).to(y_ptr.dtype.element_ty), mask=there)
    tl.store(y_ptr + target + 1, (even * sin + odd * cos).to(y_ptr.dtype.element_ty), mask=there)


def rms_norm(x: torch.Tensor, scale: torch.Tensor | None, eps: float) -> torch.Tensor | None:
    """Return x [...,D] * rsqrt(mean(x^2) + eps) * scale, computed in float32 and rounded once to x's dtype.

    None for a scale that is neither [D] nor one row for each of x's first dimension, and for rows that are too wide.
    """
    width = x.shape[-1]
    count = 1 if scale is None else scale.numel() // width
    if width > _WIDEST or x.numel() == 0 or (scale is not None and not _by_row(scale, x)):
        return None
    outer, y = _in_rows(x), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, columns = x.numel() // width, triton.next_power_of_2(width)
    tile_rows = max(1, _TILE // columns)
    _rms_norm_rows[(triton.cdiv(rows, tile_rows),)](
        outer,
        x if scale is None else scale.contiguous(),
        y,
        rows,
        outer.shape[1],
        outer.stride(0),
        outer.stride(1),
        rows // count,
        eps,
        width,
        columns,
        tile_rows,
        scale is not None,
        num_warps=8 if columns * tile_rows >= _TILE else 4,
    )
    return y


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (x[2i], x[2i+1]) of x [B,N,H,Dh] by the angle of cos, sin [N,H,Dh/2] float32, in float32."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return y
    outer, pairs = _in_rows(x), x.shape[-1] // 2
    rows, columns = x.numel() // (2 * pairs), triton.next_power_of_2(pairs)
    tile_rows = max(1, _TILE // 2 // columns)
    _rope_rows[(triton.cdiv(rows, tile_rows),)](
        outer,
        cos.contiguous(),
        sin.contiguous(),
        y,
        rows,
        outer.shape[1],
        outer.stride(0),
        outer.stride(1),
        cos.shape[0] * cos.shape[1],
        pairs,
        columns,
        tile_rows,
        num_warps=4,
    )
    return y


def _by_row(scale: torch.Tensor, x: torch.Tensor) -> bool:
    """Return whether x's row i is scaled by the row i // (x's rows / scale's rows)."""
    if scale.shape[-1] != x.shape[-1]:
        return False
    whole = (1,) * (x.ndim - scale.ndim) + tuple(scale.shape)
    return len(whole) == x.ndim and whole[0] in (1, x.shape[0]) and all(size == 1 for size in whole[1:-1])


def _in_rows(x: torch.Tensor) -> torch.Tensor:
    """Return x [...,D] as [outer,inner,D], whose rows are contiguous; a view where that is possible."""
    shape = (-1, x.shape[-2] if x.ndim > 1 else 1, x.shape[-1])
    if x.stride(-1) == 1:
        try:
            return x.view(shape)
        except RuntimeError:  # its outer dimensions are no single stride
            pass
    return x.contiguous().view(shape)
