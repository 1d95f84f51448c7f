"""Products, norms, rotary embedding and attention against torch.

float32 sums of up to about 100 terms of size 1 in another order: 1e-5. bfloat16: one part in 2^7 of the largest.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mochi_aot.compiler.ir.program import Attrs
from tests.compiler.ir.one_op import apply, near, normal, tensors

TOLERANCE = 1e-5


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 1, 3, 6)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    operands = [normal(1, *shape), normal(2, 5, 6), *([normal(3, 5)] * bias)]
    near(apply("linear", {}, *operands)[0], F.linear(*tensors(*operands)), TOLERANCE)


def test_linear_in_bfloat16() -> None:
    operands = [torch.from_numpy(normal(i, *shape)).bfloat16() for i, shape in enumerate(((3, 64), (5, 64), (5,)))]
    (y,) = apply("linear", {}, *(t.float().numpy() for t in operands), dtype="bfloat16")
    near(y, F.linear(*operands).float(), 2**-7)


@pytest.mark.parametrize("shapes", [((3, 6), (6, 2)), ((2, 4, 3, 6), (2, 4, 6, 2)), ((4, 3, 6), (1, 6, 2))])
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = normal(1, *shapes[0]), normal(2, *shapes[1])
    near(apply("matmul", {}, a, b)[0], torch.matmul(*tensors(a, b)), TOLERANCE)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax(dim: int) -> None:
    x = 50 * normal(1, 3, 4, 5)
    near(apply("softmax", {"dim": dim}, x)[0], torch.softmax(torch.from_numpy(x), dim), TOLERANCE)


def test_softmax_of_masked_scores_is_exact() -> None:
    x = np.array([[0.0, -np.inf, 0.0]], np.float32)
    assert apply("softmax", {"dim": 1}, x)[0].tolist() == [[0.5, 0.0, 0.5]]


@pytest.mark.parametrize("scale_shape", [None, (8,), (2, 1, 8)])
def test_rms_norm(scale_shape: tuple[int, ...] | None) -> None:
    x = normal(1, 2, 3, 8)
    scale = [] if scale_shape is None else [normal(2, *scale_shape)]
    (y,) = apply("rms_norm", {"eps": 1e-5}, x, *scale)
    expected = F.rms_norm(torch.from_numpy(x), (8,), None, 1e-5)
    near(y, expected * tensors(*scale)[0] if scale else expected, TOLERANCE)


def test_rope_is_a_complex_product() -> None:
    x, angle = normal(1, 2, 5, 3, 8), normal(2, 5, 3, 4)
    (y,) = apply("rope", {}, x, np.cos(angle), np.sin(angle))
    pairs = torch.view_as_complex(torch.from_numpy(x).reshape(2, 5, 3, 4, 2))
    turned = pairs * torch.polar(torch.ones(angle.shape), torch.from_numpy(angle))
    near(y, torch.view_as_real(turned).reshape(x.shape), TOLERANCE)


@pytest.mark.parametrize("bias_shape", [None, (1, 1, 1, 6), (2, 3, 5, 6), (3, 5, 6)])
def test_attention(bias_shape: tuple[int, ...] | None) -> None:
    q, k, v = normal(1, 2, 3, 5, 4), normal(2, 2, 3, 6, 4), normal(3, 2, 3, 6, 7)
    bias = [] if bias_shape is None else [normal(4, *bias_shape)]
    (y,) = apply("attention", {"scale": 0.3, "causal": False}, q, k, v, *bias)
    mask = torch.from_numpy(bias[0]) if bias else None
    t_q, t_k, t_v = tensors(q, k, v)
    expected = F.scaled_dot_product_attention(t_q, t_k, t_v, attn_mask=mask, scale=0.3)
    near(y, expected, TOLERANCE)


def test_causal_attention() -> None:
    q, k, v = (normal(i, 2, 3, 5, 4) for i in range(3))
    (y,) = apply("attention", {"scale": 0.3, "causal": True}, q, k, v)
    t_q, t_k, t_v = tensors(q, k, v)
    expected = F.scaled_dot_product_attention(t_q, t_k, t_v, is_causal=True, scale=0.3)
    near(y, expected, TOLERANCE)


def joint_operands(mask: np.ndarray) -> list[np.ndarray]:
    """q, k, v [2, 5, 3, 4], those of the text [2, 4, 3, 4], and the mask [2, 4]."""
    return [*(normal(i, 2, 5, 3, 4) for i in range(3)), *(normal(i, 2, 4, 3, 4) for i in range(3, 6)), mask]


JOINT: Attrs = {"scale": 0.5}


@pytest.mark.parametrize("visible", [0, 1, 4])
def test_joint_attention(visible: int) -> None:
    operands = joint_operands(np.broadcast_to(np.arange(4) < visible, (2, 4)).copy())
    out, out_text = apply("joint_attention", JOINT, *operands)
    q, k, v, q_text, k_text, v_text, _ = tensors(*operands)
    queries = torch.cat([q, q_text], 1).transpose(1, 2)
    keys, values = (torch.cat([a, b[:, :visible]], 1).transpose(1, 2) for a, b in ((k, k_text), (v, v_text)))
    expected = F.scaled_dot_product_attention(queries, keys, values, scale=0.5).transpose(1, 2)
    near(out, expected[:, :5], TOLERANCE)
    near(out_text, expected[:, 5:], TOLERANCE)


def test_masks_may_differ_within_a_batch() -> None:
    operands = joint_operands(np.array([[True, False, True, False], [False, False, False, True]]))
    out, _ = apply("joint_attention", JOINT, *operands)
    for row in range(2):
        alone, _ = apply("joint_attention", JOINT, *(array[row : row + 1] for array in operands))
        near(out[row : row + 1], alone, TOLERANCE)
