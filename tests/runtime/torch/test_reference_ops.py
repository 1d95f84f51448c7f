"""The kernels of composite ops against the reference's definitions, through which programs were traced.

float32 sums of at most 200 terms of order 1 in another order: 1e-5 of the largest result. bfloat16: one rounding, 2^-8.
"""

import pytest
import torch
from torch import Tensor

from mochi_aot.compiler.reference import ops
from mochi_aot.runtime.torch.kernels import KERNELS
from tests.runtime.torch.attention_by_rows import mask_of, operands
from tests.runtime.torch.programs import kernel, normal

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-7)])


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.dtype is expected.dtype
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


@DTYPES
def test_rms_norm(dtype: torch.dtype, tolerance: float) -> None:
    x, scale = normal(0, 2, 3, 4, 16, dtype=dtype), normal(1, 2, 1, 1, 16, dtype=dtype)
    close(kernel("rms_norm", x, eps=1e-6), ops.rms_norm(x, None, 1e-6), tolerance)
    close(kernel("rms_norm", x, scale, eps=1e-6), ops.rms_norm(x, scale, 1e-6), tolerance)


@DTYPES
def test_rope(dtype: torch.dtype, tolerance: float) -> None:
    x, angle = normal(0, 2, 5, 3, 8, dtype=dtype), normal(1, 5, 3, 4)
    cos, sin = angle.cos(), angle.sin()
    close(kernel("rope", x, cos, sin), ops.rope(x, cos, sin), tolerance)


@DTYPES
def test_joint_attention(dtype: torch.dtype, tolerance: float) -> None:
    """Masked text queries mean nothing, so only the others are compared."""
    tensors, mask = operands(7, 5, dtype), mask_of(5, [0, 1, 2], [])
    out, out_text = KERNELS["joint_attention"]({"scale": 0.4})(*tensors, mask)
    expected, expected_text = ops.joint_attention(*tensors, mask, 0.4)
    close(out, expected, tolerance)
    close(out_text[mask], expected_text[mask], tolerance)


@DTYPES
@pytest.mark.parametrize("stride", [[1, 1, 1], [3, 2, 2]])
def test_causal_conv3d(stride: list[int], dtype: torch.dtype, tolerance: float) -> None:
    x, w, b = normal(0, 1, 4, 5, 6, 7, dtype=dtype), normal(1, 5, 7, 3, 3, 3, dtype=dtype), normal(2, 5, dtype=dtype)
    y = kernel("causal_conv3d", x, w, b, stride=stride, padding=[2, 1, 1, 1, 1])
    close(y, ops.causal_conv3d(x, w, b, stride), tolerance)


@DTYPES
def test_group_norm(dtype: torch.dtype, tolerance: float) -> None:
    x, w, b = normal(0, 2, 3, 4, 5, 8, dtype=dtype), normal(1, 8, dtype=dtype), normal(2, 8, dtype=dtype)
    close(kernel("group_norm", x, w, b, groups=4, eps=1e-5), ops.group_norm(x, w, b, 4, 1e-5), tolerance)
