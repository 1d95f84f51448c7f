"""Prints, as JSON, how far Triton's kernels are from their definitions in float64: on a GPU, or, with
TRITON_INTERPRET=1, which is read when Triton is imported, as numpy computes what a GPU would."""

import json
import os
from typing import Any

import torch
from triton.runtime import interpreter

from mochi_aot.runtime.torch.float8 import FLOAT8, quantised
from mochi_aot.runtime.torch.gpu import fused
from mochi_aot.runtime.torch.gpu.fusion import NORM_ADD, NORM_ROPE, NORM_SILU, SILU_MUL
from mochi_aot.runtime.torch.gpu.kernels import fused_kernels

_convert_float = interpreter._convert_float


def converted(input: Any, input_dtype: Any, output_dtype: Any, rounding_mode: Any) -> Any:
    """Triton's interpreter has 1.99 become 1 in float8, without a carry into the exponent; torch has it become 2, as
    GPUs do."""
    if str(output_dtype) != "fp8e4nv":
        return _convert_float(input, input_dtype, output_dtype, rounding_mode)
    return torch.from_numpy(input).to(FLOAT8).view(torch.uint8).numpy()


interpreter._convert_float = converted
KERNELS = fused_kernels()
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
fused._TILES_PER_CHUNK = 2  # so that a small frame has several parts, the last one not full


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def off(made: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the largest value."""
    assert made.is_contiguous() and made.shape == expected.shape
    return float((made.double() - expected).abs().max() / expected.abs().max())


def norm(x: torch.Tensor, scale: torch.Tensor | None, eps: float = 1e-2) -> float:
    """RMS norm, beside its definition."""
    made = KERNELS["rms_norm"]({"eps": eps})(x, *([] if scale is None else [scale]))
    assert made.dtype is x.dtype
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + eps).sqrt()
    return off(made, expected if scale is None else expected * scale.double())


def turned(x: torch.Tensor, angles: torch.Tensor) -> float:
    """Rotary embedding, beside complex numbers."""
    made = KERNELS["rope"]({})(x, angles.cos(), angles.sin())
    assert made.dtype is x.dtype
    pairs = torch.view_as_complex(x.double().contiguous().view(*x.shape[:-1], -1, 2))
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles.double()), angles.double()))
    return off(made, expected.flatten(-2))


def heads(dtype: torch.dtype) -> torch.Tensor:
    """[2,5,3,24] as programs have it: a slice of a product that gives queries, keys and values."""
    return normal(1, 2, 5, 3 * 72, dtype=dtype)[:, :, 72:144].reshape(2, 5, 3, 24)


def norm_added(x: torch.Tensor, scale: torch.Tensor, added: torch.Tensor) -> float:
    """A norm that is added to something."""
    made = KERNELS[NORM_ADD]({"eps": 1e-2})(x, scale, added)
    normed = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-2).sqrt()
    return off(made, normed * scale.double() + added.double())


def norm_turned(x: torch.Tensor, scale: torch.Tensor, angles: torch.Tensor) -> float:
    """A norm that is turned."""
    made = KERNELS[NORM_ROPE]({"eps": 1e-2})(x, scale, angles.cos(), angles.sin())
    normed = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-2).sqrt() * scale.double()
    pairs = torch.view_as_complex(normed.contiguous().view(*x.shape[:-1], -1, 2))
    turns = torch.polar(torch.ones_like(angles.double()), angles.double())
    return off(made, torch.view_as_real(pairs * turns).flatten(-2))


def gated(gate: torch.Tensor, up: torch.Tensor) -> float:
    """SwiGLU's product."""
    a = gate.double()
    return off(KERNELS[SILU_MUL]({})(gate, up), a / (1 + (-a).exp()) * up.double())


def grouped(x: torch.Tensor, groups: int, op: str = "group_norm") -> float:
    """Group norm of each frame, beside its definition; values are far from 0, where squares would cancel."""
    weight, bias = (normal(seed, x.shape[-1], dtype=x.dtype) for seed in (10, 11))
    made = KERNELS[op]({"groups": groups, "eps": 1e-2})(x, weight, bias)
    assert made.dtype is x.dtype
    parts = x.double().unflatten(-1, (groups, -1))
    mean = parts.mean((2, 3, 5), keepdim=True)
    variance = (parts - mean).square().mean((2, 3, 5), keepdim=True)
    normed = ((parts - mean) / (variance + 1e-2).sqrt()).flatten(-2)
    expected = normed * weight.double() + bias.double()
    return off(made, expected if op == "group_norm" else expected / (1 + (-expected).exp()))


def in_float8(x: torch.Tensor) -> float:
    """Rows in float8, beside torch's own ops, bit by bit: the share of numbers and scales that are others."""
    made, scales = fused.float8_rows(x) or (None, None)
    assert made is not None and scales is not None
    expected, expected_scales = quantised(x.reshape(-1, x.shape[-1]))
    assert made.dtype is FLOAT8 and scales.shape == expected_scales.shape and made.is_contiguous()
    other = (made.view(torch.uint8) != expected.view(torch.uint8)) & ~torch.isnan(expected_scales)
    finite = torch.isfinite(expected_scales)
    assert torch.equal(torch.isnan(made.float()).any(1, keepdim=True), ~finite)  # what is not finite stays so
    return float(other.double().mean()) + float((scales != expected_scales)[finite].double().mean())


def multiplied(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> float:
    """A linear layer in float8, beside one of the same numbers in float64."""
    values, scales = quantised(w)
    made = KERNELS["linear_float8"]({})(x, values, scales[:, 0], b)
    assert made.dtype is x.dtype
    (rows, row_scales), exact = quantised(x.reshape(-1, x.shape[-1])), values.double() * scales
    return off(made, ((rows.double() * row_scales) @ exact.T + b.double()).view(*x.shape[:-1], -1))


def broken(x: torch.Tensor) -> torch.Tensor:
    """Rows of very different sizes, of zeros, with an infinity and with NaN."""
    x = x * torch.logspace(-15, 15, len(x), device=x.device)[:, None].to(x.dtype)
    x[1] = 0
    x[2, 3], x[3, 4] = -torch.inf, torch.nan
    return x


def differences(dtype: torch.dtype) -> dict[str, float]:
    """Every form in which programs have these ops, by name."""
    x = normal(0, 2, 5, 200, dtype=dtype)
    return {
        "norm": norm(x, None),
        "norm, small": norm(x * 1e-3, None, 1e-6),
        "norm, a scale for all": norm(x, normal(2, 200, dtype=dtype)),
        "norm, a scale for each batch row": norm(x, normal(3, 2, 1, 200)),
        "norm, a scale of one batch row": norm(x, normal(3, 1, 1, 200)),
        "norm, a scale for each token": norm(x, normal(4, 2, 5, 200)),  # no kernel: as torch computes it
        "norm, heads": norm(heads(dtype), normal(5, 24, dtype=dtype)),
        "norm, one row": norm(x[0, 0], normal(6, 200)),
        "norm, every second number": norm(x[..., ::2], None),
        "norm, transposed": norm(normal(7, 4, 3, 2, 8, dtype=dtype).transpose(0, 2), None),
        "rope": turned(normal(8, 2, 5, 3, 24, dtype=dtype), normal(9, 5, 3, 12)),
        "rope, heads": turned(heads(dtype), normal(9, 5, 3, 12)),
        "norm and sum": norm_added(x, normal(3, 2, 1, 200), normal(15, 2, 5, 200, dtype=dtype)),
        "norm and sum, of a view": norm_added(x, normal(3, 200), normal(15, 5, 2, 200, dtype=dtype).transpose(0, 1)),
        "norm and sum of another shape": norm_added(x, normal(3, 200), normal(15, 200, dtype=dtype)),
        "norm and rope": norm_turned(heads(dtype), normal(5, 24, dtype=dtype), normal(9, 5, 3, 12)),
        "norm of a scale for each row, and rope": norm_turned(
            heads(dtype), normal(5, 2, 1, 1, 24), normal(9, 5, 3, 12)
        ),
        "swiglu, halves of a product": gated(*normal(16, 2, 5, 96, dtype=dtype).chunk(2, -1)),
        "swiglu, far from 0": gated(30 * normal(17, 3, 40, dtype=dtype), normal(18, 3, 40, dtype=dtype)),
        "swiglu, of one for all": gated(normal(17, 3, 40, dtype=dtype), normal(18, 40, dtype=dtype)),
        "group norm": grouped(normal(12, 2, 3, 5, 7, 24, dtype=dtype) + 4, 4),
        "group norm and silu": grouped(normal(12, 1, 2, 5, 7, 24, dtype=dtype) + 4, 4, NORM_SILU),
        "group norm, frames in parts": grouped(normal(13, 1, 2, 10, 13, 96, dtype=dtype) + 4, 32),
        "group norm, one pixel": grouped(normal(14, 1, 2, 1, 1, 16, dtype=dtype) + 4, 4),
        "float8": in_float8(x),
        "float8, a product": multiplied(x[..., :192], normal(21, 32, 192), normal(22, 32, dtype=dtype)),
        "float8, slices of a product": in_float8(normal(19, 2, 5, 96, dtype=dtype)[..., 32:64]),
        "float8, all kinds of rows": in_float8(broken(normal(20, 7, 33, dtype=dtype))),
        "rope, transposed": turned(normal(8, 5, 2, 3, 24, dtype=dtype).transpose(0, 1), normal(9, 5, 3, 12)),
    }


if __name__ == "__main__":
    nothing = torch.zeros(3, 1, 0, 2, 8, device=DEVICE)
    empty = KERNELS["rms_norm"]({"eps": 1.0})(nothing), KERNELS["rope"]({})(*nothing)
    assert [x.numel() for x in empty] == [0, 0]
    assert fused.float8_rows(nothing) is None
    print(json.dumps({name: differences(getattr(torch, name)) for name in ("float32", "bfloat16")}))
