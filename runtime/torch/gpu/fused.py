"""What is limited by memory, in Triton: RMS norm, rotary position embedding, SwiGLU and the way to float8 read every
number once and write it once, group norm on channels-last videos reads it twice.

torch's own ops, of which each would need several, write float32 in between, or change the order of dimensions.
"""

import torch
import triton
import triton.language as tl

from mochi_aot.runtime.torch.float8 import FLOAT8

_TILE = 4096  # numbers that a program of the grid works on, or one row of more
_WIDEST = 16384  # a row that one program can hold
_TILES_PER_CHUNK = 32  # of which a program takes the moments


@triton.jit
def _tile_of_rows(
    x_ptr,
    rows,
    inner,
    outer_stride,
    inner_stride,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
):
    """Return this program's rows, all columns, which of both there are, and the numbers there in float32."""
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    there = (row < rows)[:, None] & (column < width)[None, :]
    start = (row // inner) * outer_stride + (row % inner) * inner_stride
    x = tl.load(x_ptr + start[:, None] + column[None, :], mask=there, other=0.0).to(tl.float32)
    return row, column, there, x


@triton.jit
def _rms_norm_rows(
    x_ptr,
    scale_ptr,
    added_ptr,
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
    added: tl.constexpr,
):
    row, column, there, x = _tile_of_rows(x_ptr, rows, inner, outer_stride, inner_stride, width, columns, tile_rows)
    mean_square = tl.sum(x * x, axis=1) / width
    y = x * (1.0 / tl.sqrt(mean_square + eps))[:, None]
    if scaled:
        scale_start = (row // rows_per_scale) * width
        scale = tl.load(scale_ptr + scale_start[:, None] + column[None, :], mask=there, other=0.0)
        y = y * scale.to(tl.float32)
    place = (row * width)[:, None] + column[None, :]
    if added:
        y += tl.load(added_ptr + place, mask=there, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=there)


@triton.jit
def _rope_rows(
    x_ptr,
    scale_ptr,
    cos_ptr,
    sin_ptr,
    y_ptr,
    rows,
    inner,
    outer_stride,
    inner_stride,
    table_rows,
    eps,
    pairs: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
    normed: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    pair, column = tl.arange(0, columns), tl.arange(0, 2 * columns)
    there = (row < rows)[:, None] & (pair < pairs)[None, :]
    whole = (row < rows)[:, None] & (column < 2 * pairs)[None, :]
    start = (row // inner) * outer_stride + (row % inner) * inner_stride
    x = tl.load(x_ptr + start[:, None] + column[None, :], mask=whole, other=0.0).to(tl.float32)
    if normed:
        mean_square = tl.sum(x * x, axis=1) / (2 * pairs)
        scale = tl.load(scale_ptr + column, mask=column < 2 * pairs, other=0.0).to(tl.float32)
        x = x * (1.0 / tl.sqrt(mean_square + eps))[:, None] * scale[None, :]
    even, odd = tl.split(tl.reshape(x, (tile_rows, columns, 2)))
    table = ((row % table_rows) * pairs)[:, None] + pair[None, :]
    cos = tl.load(cos_ptr + table, mask=there, other=0.0)
    sin = tl.load(sin_ptr + table, mask=there, other=0.0)
    y = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (tile_rows, 2 * columns))
    target = (row * 2 * pairs)[:, None] + column[None, :]
    tl.store(y_ptr + target, y.to(y_ptr.dtype.element_ty), mask=whole)


@triton.jit
def _silu_mul_rows(
    a_ptr,
    b_ptr,
    y_ptr,
    rows,
    inner,
    a_outer_stride,
    a_inner_stride,
    b_outer_stride,
    b_inner_stride,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    there = (row < rows)[:, None] & (column < width)[None, :]
    outer, within = row // inner, row % inner
    a_start = (outer * a_outer_stride + within * a_inner_stride)[:, None] + column[None, :]
    b_start = (outer * b_outer_stride + within * b_inner_stride)[:, None] + column[None, :]
    a = tl.load(a_ptr + a_start, mask=there, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + b_start, mask=there, other=0.0).to(tl.float32)
    y = a / (1.0 + tl.exp(-a)) * b
    tl.store(y_ptr + (row * width)[:, None] + column[None, :], y.to(y_ptr.dtype.element_ty), mask=there)


@triton.jit
def _float8_rows(
    x_ptr,
    values_ptr,
    scales_ptr,
    rows,
    inner,
    outer_stride,
    inner_stride,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
):
    row, column, there, x = _tile_of_rows(x_ptr, rows, inner, outer_stride, inner_stride, width, columns, tile_rows)
    # The least power of two by which the largest is at most 448, 1.75 * 2^8; or the largest, if it is infinite. NaN,
    # which maxima pass over, stays what it is.
    bits = tl.max(tl.abs(x), axis=1).to(tl.int32, bitcast=True)
    exponent = tl.maximum((bits >> 23) - 8 + ((bits & 0x7FFFFF) > 0x600000).to(tl.int32), 1)
    scale = tl.where(bits < 0x7F800000, exponent << 23, bits).to(tl.float32, bitcast=True)
    y = tl.div_rn(x, tl.broadcast_to(scale[:, None], (tile_rows, columns)))
    place = (row * width)[:, None] + column[None, :]
    tl.store(values_ptr + place, y.to(tl.float8e4nv, fp_downcast_rounding="rtne"), mask=there)
    tl.store(scales_ptr + row, scale, mask=row < rows)


@triton.jit
def _channel_moments(
    x_ptr,
    mean_ptr,
    m2_ptr,
    pixels,
    channels: tl.constexpr,
    columns: tl.constexpr,
    chunk: tl.constexpr,
    tile_rows: tl.constexpr,
):
    frame, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    column = tl.arange(0, columns)
    remaining = pixels - part * chunk
    mean = tl.zeros((columns,), tl.float32)
    m2 = tl.zeros((columns,), tl.float32)
    for first in range(0, chunk, tile_rows):
        pixel = part * chunk + first + tl.arange(0, tile_rows)
        inside = pixel < pixels
        there = inside[:, None] & (column < channels)[None, :]
        start = (frame * pixels + pixel) * channels
        x = tl.load(x_ptr + start[:, None] + column[None, :], mask=there, other=0.0).to(tl.float32)
        count = tl.minimum(remaining, first).to(tl.float32)
        size = tl.maximum(tl.minimum(remaining - first, tile_rows), 0).to(tl.float32)
        tile_mean = tl.sum(x, axis=0) / tl.maximum(size, 1.0)
        away = tl.where(there, x - tile_mean[None, :], 0.0)
        total = tl.maximum(count + size, 1.0)
        step = tile_mean - mean
        m2 += tl.sum(away * away, axis=0) + step * step * (count * size / total)
        mean += step * (size / total)
    place = (frame * tl.num_programs(1) + part) * channels + column
    tl.store(mean_ptr + place, mean, mask=column < channels)
    tl.store(m2_ptr + place, m2, mask=column < channels)


@triton.jit
def _scaled_rows(
    x_ptr,
    scale_ptr,
    shift_ptr,
    y_ptr,
    rows,
    rows_per_frame,
    channels: tl.constexpr,
    columns: tl.constexpr,
    tile_rows: tl.constexpr,
    activated: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    column = tl.arange(0, columns)
    there = (row < rows)[:, None] & (column < channels)[None, :]
    place = (row * channels)[:, None] + column[None, :]
    frame = ((row // rows_per_frame) * channels)[:, None] + column[None, :]
    x = tl.load(x_ptr + place, mask=there, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + frame, mask=there, other=0.0)
    shift = tl.load(shift_ptr + frame, mask=there, other=0.0)
    y = x * scale + shift
    if activated:
        y = y / (1.0 + tl.exp(-y))
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=there)


def rms_norm(
    x: torch.Tensor, scale: torch.Tensor | None, eps: float, added: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return x [...,D] * rsqrt(mean(x^2) + eps) * scale, plus `added`, in float32 and rounded once to x's dtype.

    None for a scale that is neither [D] nor one row for each of x's first dimension, for something added of another
    shape or dtype, and for rows that are too wide.
    """
    width = x.shape[-1]
    count = 1 if scale is None else scale.numel() // width
    if width > _WIDEST or x.numel() == 0 or (scale is not None and not _by_row(scale, x)):
        return None
    if added is not None and (added.shape != x.shape or added.dtype is not x.dtype):
        return None
    outer, y = _in_rows(x), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, columns, tile_rows = _tiles(x.numel(), width)
    _rms_norm_rows[(triton.cdiv(rows, tile_rows),)](
        outer,
        x if scale is None else scale.contiguous(),
        x if added is None else added.contiguous(),
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
        added is not None,
        num_warps=8 if columns * tile_rows >= _TILE else 4,
        enable_fp_fusion=True,
    )
    return y


def rope(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    scale: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """Turn each pair (x[2i], x[2i+1]) of x [B,N,H,Dh] by the angle of cos, sin [N,H,Dh/2] float32, in float32.

    With a scale [Dh] the RMS norm of x is turned, which is not rounded before.
    """
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return y
    outer, pairs = _in_rows(x), x.shape[-1] // 2
    rows, _, tile_rows = _tiles(x.numel(), 2 * pairs)
    _rope_rows[(triton.cdiv(rows, tile_rows),)](
        outer,
        x if scale is None else scale.contiguous(),
        cos.contiguous(),
        sin.contiguous(),
        y,
        rows,
        outer.shape[1],
        outer.stride(0),
        outer.stride(1),
        cos.shape[0] * cos.shape[1],
        eps,
        pairs,
        triton.next_power_of_2(pairs),
        tile_rows,
        scale is not None,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return y


def silu_mul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor | None:
    """Return silu(a) * b, computed in float32 and rounded once. None for operands of different shapes or dtypes, and
    for rows that are too wide."""
    width = a.shape[-1]
    if a.shape != b.shape or a.dtype is not b.dtype or width > _WIDEST or a.numel() == 0:
        return None
    outer, others = _in_rows(a), _in_rows(b)
    y = torch.empty(a.shape, dtype=a.dtype, device=a.device)
    rows, columns, tile_rows = _tiles(a.numel(), width)
    strides = (outer.stride(0), outer.stride(1), others.stride(0), others.stride(1))
    _silu_mul_rows[(triton.cdiv(rows, tile_rows),)](
        outer, others, y, rows, outer.shape[1], *strides, width, columns, tile_rows, num_warps=8, enable_fp_fusion=True
    )
    return y


def float8_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return rows x [...,K] in float8, [N,K], and their scales, float32 [N,1], as runtime/torch/float8.py defines them.

    None for rows that are too wide. GPUs before compute capability 8.9 have no such numbers.
    """
    width = x.shape[-1]
    if width > _WIDEST or x.numel() == 0:
        return None
    outer, (rows, columns, tile_rows) = _in_rows(x), _tiles(x.numel(), width)
    values = torch.empty((rows, width), dtype=FLOAT8, device=x.device)
    scales = torch.empty((rows, 1), device=x.device)
    _float8_rows[(triton.cdiv(rows, tile_rows),)](
        outer,
        values,
        scales,
        rows,
        outer.shape[1],
        outer.stride(0),
        outer.stride(1),
        width,
        columns,
        tile_rows,
        num_warps=8,
        enable_fp_fusion=True,
    )
    return values, scales


def _tiles(numel: int, width: int) -> tuple[int, int, int]:
    """Return how many rows there are, how wide a tile is, and how many rows it has."""
    columns = triton.next_power_of_2(width)
    return numel // width, columns, max(1, _TILE // columns)


def group_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float, silu: bool = False
) -> torch.Tensor | None:
    """Normalise x [B,T,H,W,C] over H, W and the channels of a group, for each batch row and frame; times weight [C],
    plus bias [C]; or silu of that. Computed in float32 and rounded once to x's dtype.

    None for more channels than a program can hold.

    The moments of parts of a frame are merged as in runtime/torch/group_norm.py.
    """
    channels = x.shape[-1]
    if channels > _WIDEST or x.numel() == 0:
        return None
    x = x.contiguous()
    pixels = x.shape[2] * x.shape[3]
    frames = x.numel() // (pixels * channels)
    mean, m2, counts = _moments(x, frames, pixels, channels)  # [F,K,G,C/G] twice, and [K]
    mean, m2 = (part.unflatten(-1, (groups, -1)) for part in (mean, m2))
    counts = counts[None, :, None, None]
    total = pixels * (channels // groups)
    center = (counts * mean).sum((1, 3), keepdim=True) / total
    variance = (m2 + counts * (mean - center).square()).sum((1, 3), keepdim=True) / total
    inverse = torch.rsqrt(variance + eps).expand(-1, 1, -1, channels // groups).reshape(frames, channels)
    scale = inverse * weight
    shift = bias - center.expand(-1, 1, -1, channels // groups).reshape(frames, channels) * scale
    y, (rows, columns, tile_rows) = torch.empty_like(x), _tiles(x.numel(), channels)
    _scaled_rows[(triton.cdiv(rows, tile_rows),)](
        x,
        scale.contiguous(),
        shift.contiguous(),
        y,
        rows,
        pixels,
        channels,
        columns,
        tile_rows,
        silu,
        num_warps=8,
        enable_fp_fusion=True,
    )
    return y


def _moments(
    x: torch.Tensor, frames: int, pixels: int, channels: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean and sum of squared deviations of each channel in each part of each frame, float32 [F,K,C], and the
    pixels of the parts, float32 [K]."""
    _, columns, tile_rows = _tiles(x.numel(), channels)
    chunk = tile_rows * _TILES_PER_CHUNK
    parts = triton.cdiv(pixels, chunk)
    mean, m2 = (torch.empty((frames, parts, channels), device=x.device) for _ in range(2))
    _channel_moments[(frames, parts)](
        x, mean, m2, pixels, channels, columns, chunk, tile_rows, num_warps=8, enable_fp_fusion=True
    )
    starts = torch.arange(0, parts * chunk, chunk, device=x.device)
    return mean, m2, (pixels - starts).clamp_(max=chunk).float()


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
