"""The composite ops against their formulas, written out in float64 with loops and plain indexing."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.reference import ops

# Of the largest value: in float32 some ten roundings of 2^-24; in bfloat16 the last rounding of 2^-9, and in attention
# one more, of the weights.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "bfloat16"])


def assert_equals_formula(actual, formula, dtype):
    assert actual.dtype is dtype and actual.is_contiguous()
    assert (actual.double() - formula).abs().max() <= TOLERANCE[dtype] * formula.abs().max()


@both_dtypes
def test_rms_norm(dtype):
    x, scale = torch.randn(2, 5, 8).to(dtype), torch.randn(2, 1, 8)
    wide = x.double()
    formula = wide / (wide.square().sum(-1, keepdim=True) / 8 + 1e-6).sqrt()
    assert_equals_formula(ops.rms_norm(x, None, 1e-6), formula, dtype)
    assert_equals_formula(ops.rms_norm(x, scale, 1e-6), formula * scale.double(), dtype)


def test_rms_norm_of_zeros_is_zero():
    assert torch.equal(ops.rms_norm(torch.zeros(1, 4), None, 1e-6), torch.zeros(1, 4))


@both_dtypes
def test_rope_turns_neighbouring_pairs(dtype):
    x, angle = torch.randn(2, 3, 4, 6).to(dtype), torch.randn(3, 4, 3)
    pairs = torch.view_as_complex(x.double().reshape(2, 3, 4, 3, 2))
    turned = pairs * torch.polar(torch.ones(3, 4, 3, dtype=torch.float64), angle.double())
    formula = torch.view_as_real(turned).reshape(x.shape)
    assert_equals_formula(ops.rope(x, angle.cos(), angle.sin()), formula, dtype)


@both_dtypes
def test_joint_attention(dtype):
    batch, visual, text, heads, width = 2, 5, 4, 2, 8
    q, k, v = (torch.randn(batch, visual, heads, width).to(dtype) for _ in range(3))
    q_text, k_text, v_text = (torch.randn(batch, text, heads, width).to(dtype) for _ in range(3))
    mask = torch.tensor([[True, False, True, False], [False, False, False, False]])
    out, out_text = ops.joint_attention(q, k, v, q_text, k_text, v_text, mask, 0.3)
    for b in range(batch):
        keys = torch.cat([k[b], k_text[b, mask[b]]]).double()
        values = torch.cat([v[b], v_text[b, mask[b]]]).double()
        for queries, actual in ((q[b], out[b]), (q_text[b], out_text[b])):
            weights = torch.einsum("qhd,khd->hqk", queries.double(), keys).mul(0.3).softmax(-1)
            formula = torch.einsum("hqk,khd->qhd", weights, values)
            assert_equals_formula(actual, formula, dtype)


@both_dtypes
@pytest.mark.parametrize("kernel, stride", [((3, 3, 3), (1, 1, 1)), ((3, 2, 2), (3, 2, 2)), ((1, 2, 2), (1, 2, 2))])
def test_causal_conv3d(dtype, kernel, stride):
    x = torch.randn(1, 4, 4, 6, 3).to(dtype)
    weight, bias = torch.randn(5, 3, *kernel).to(dtype), torch.randn(5).to(dtype)
    before = [kernel[0] - 1, (kernel[1] - 1) // 2, (kernel[2] - 1) // 2]
    after = [0, before[1], before[2]]
    sizes = [(x.shape[1 + i] + before[i] + after[i] - kernel[i]) // stride[i] + 1 for i in range(3)]
    formula = torch.zeros(1, *sizes, 5, dtype=torch.float64)
    for position in np.ndindex(*sizes):
        for offset in np.ndindex(*kernel):
            source = [position[i] * stride[i] + offset[i] - before[i] for i in range(3)]
            t, h, w = (min(max(source[i], 0), x.shape[1 + i] - 1) for i in range(3))
            formula[0, *position] += weight[:, :, *offset].double() @ x[0, t, h, w].double()
    assert_equals_formula(ops.causal_conv3d(x, weight, None, list(stride)), formula, dtype)
    assert_equals_formula(ops.causal_conv3d(x, weight, bias, list(stride)), formula + bias.double(), dtype)


@both_dtypes
def test_group_norm_takes_each_frame_for_itself(dtype):
    x, weight, bias = (torch.randn(s).to(dtype) for s in ((2, 3, 4, 5, 8), (8,), (8,)))
    formula = torch.zeros(x.shape, dtype=torch.float64)
    for b, t, group in np.ndindex(2, 3, 4):
        part = x[b, t, :, :, 2 * group : 2 * group + 2].double()
        normed = (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt()
        formula[b, t, :, :, 2 * group : 2 * group + 2] = normed
    formula = formula * weight.double() + bias.double()
    assert_equals_formula(ops.group_norm(x, weight, bias, 4, 1e-5), formula, dtype)


def test_annotate_changes_nothing():
    x = torch.randn(3, 4)
    assert torch.equal(ops.annotate(x, "name"), x)


def video(*shape):
    return torch.randn(1, *shape)


@pytest.mark.parametrize(
    "op, arguments",
    [
        (ops.annotate, (video(3, 4).transpose(1, 2), "name")),
        (ops.rms_norm, (video(3, 4).transpose(1, 2), video(1, 3), 1e-6)),
        (ops.rope, (video(3, 2, 4).bfloat16(), torch.randn(3, 2, 2), torch.randn(3, 2, 2))),
        (ops.joint_attention, (*[video(3, 2, 4)] * 3, *[video(5, 2, 4)] * 3, torch.ones(1, 5) > 0, 0.5)),
        (ops.causal_conv3d, (video(4, 4, 6, 3), torch.randn(5, 3, 3, 2, 2), torch.randn(5), [3, 2, 2])),
        (ops.group_norm, (video(2, 4, 3, 8).transpose(2, 3), torch.randn(8), torch.randn(8), 4, 1e-5)),
    ],
)
def test_fake_implementations_agree(op, arguments):
    """Shapes, dtypes and strides under fake tensors are those of the real implementation, which aliases no input."""
    torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))
