"""Attention against its definition in float64.

Weights sum to 1 and values are of order 1, so float32 is off by a few 2^-24: 1e-5; bfloat16 by 2^-7, its rounding of
the weights and of the result.
"""

import pytest
import torch
from torch import Tensor

from mochi_aot.runtime.torch.attention import Tokens, together
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.text_positions import remember_positions, valid_positions
from tests.runtime.torch import attention_by_rows
from tests.runtime.torch.attention_by_rows import mask_of, operands
from tests.runtime.torch.programs import kernel, normal

DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-6)]
MASKS = {
    "prefix": mask_of(5, [0, 1, 2], [0]),
    "all": mask_of(5, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    "none": mask_of(5, [], []),
    "one empty": mask_of(5, [], [0, 1]),
    "holes": mask_of(5, [1, 4], [2]),
}


def softmax_of(scores: Tensor, v: Tensor) -> Tensor:
    weights = torch.exp(scores)
    return (weights / weights.sum(-1, keepdim=True)) @ v.double()


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("bias_shape", [None, (1, 3, 4, 6), (2, 1, 1, 6), (2, 3, 4, 6), (4, 6), (6,), (1, 1, 4, 1)])
def test_attention_adds_the_bias(dtype: torch.dtype, tolerance: float, bias_shape: tuple[int, ...] | None) -> None:
    q, k, v = (normal(i, 2, 3, n, 8, dtype=dtype) for i, n in enumerate((4, 6, 6)))
    scores = 0.7 * q.double() @ k.double().transpose(-1, -2)
    bias = [] if bias_shape is None else [normal(3, *bias_shape, dtype=dtype)]
    y = kernel("attention", q, k, v, *bias, scale=0.7, causal=False)
    assert y.dtype is dtype
    expected = softmax_of(scores + (bias[0].double() if bias else 0), v)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("bias_shape", [None, (6,), (2, 1, 3, 1, 6), (5, 3, 4, 6)])
def test_attention_takes_any_number_of_batch_dimensions(bias_shape: tuple[int, ...] | None) -> None:
    q, k, v = (normal(i, 2, 5, 3, n, 8) for i, n in enumerate((4, 6, 6)))
    bias = [] if bias_shape is None else [normal(3, *bias_shape)]
    scores = 0.7 * q.double() @ k.double().transpose(-1, -2) + (bias[0].double() if bias else 0)
    y = kernel("attention", q, k, v, *bias, scale=0.7, causal=False)
    torch.testing.assert_close(y.double(), softmax_of(scores, v), rtol=0, atol=1e-5)


def test_attention_with_a_bias_that_masks_all() -> None:
    """T5 adds the lowest number to the scores of padding; where all is padding, that leaves equal weights."""
    q, k, v = (normal(i, 1, 2, 4, 8) for i in range(3))
    bias = torch.full((1, 1, 1, 4), torch.finfo(torch.float32).min)
    y = kernel("attention", q, k, v, bias, scale=1.0, causal=False)
    torch.testing.assert_close(y, v.mean(2, keepdim=True).expand_as(y), rtol=0, atol=1e-5)


def test_causal_attention_looks_back_only() -> None:
    q, k, v = (normal(i, 2, 3, 5, 8) for i in range(3))
    y = kernel("attention", q, k, v, scale=0.3, causal=True)
    for n in range(5):
        scores = 0.3 * q[:, :, n : n + 1].double() @ k[:, :, : n + 1].double().transpose(-1, -2)
        expected = softmax_of(scores, v[:, :, : n + 1])
        torch.testing.assert_close(y[:, :, n : n + 1].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_joint_attention(mask: Tensor, dtype: torch.dtype, tolerance: float) -> None:
    tensors = operands(7, 5, dtype)
    results = KERNELS["joint_attention"]({"scale": 0.4})(*tensors, mask)
    expected = attention_by_rows.joint_attention(tensors, mask, 0.4)
    for actual, wanted in zip(results, expected, strict=True):
        assert actual.dtype is dtype
        torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("positions", [[0, 1, 2], [1, 4], [], [0, 1, 2, 3, 4]])
def test_one_call_for_visual_tokens_and_words(dtype: torch.dtype, tolerance: float, positions: list[int]) -> None:
    """As GPUs are asked: the text's padding is cut away, and nothing is masked."""
    tensors, mask = operands(7, 5, dtype), mask_of(5, positions, [])
    expected, expected_words = attention_by_rows.joint_attention(tensors, mask, 0.4)
    visual, text = Tokens(*tensors[:3]), Tokens(*tensors[3:])
    words = text.row(0).kept(torch.tensor(positions, dtype=torch.int64))
    out, words_out = together(visual.row(0), words, 0.4)
    assert out.dtype is words_out.dtype is dtype
    torch.testing.assert_close(out.double(), expected[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(words_out.double(), expected_words[0, positions], rtol=0, atol=tolerance)


def test_positions_are_looked_up_once_for_a_mask() -> None:
    mask = mask_of(5, [1, 4], [])
    first = valid_positions(mask)
    assert [row.tolist() for row in first] == [[1, 4], []]
    assert valid_positions(mask) is first
    assert valid_positions(mask.clone()) is not first
    remember_positions(mask, [torch.tensor([0]), torch.tensor([2])])
    assert [row.tolist() for row in valid_positions(mask)] == [[0], [2]]


def test_padding_has_no_influence() -> None:
    """Not even if it is not finite, bit for bit."""
    mask = MASKS["holes"]
    tensors = operands(7, 5)
    spoiled = [x.clone() for x in tensors]
    for x in spoiled[3:]:
        x[~mask] = float("nan")
    attend = KERNELS["joint_attention"]({"scale": 0.4})
    for clean, other in zip(attend(*tensors, mask), attend(*spoiled, mask), strict=True):
        assert torch.equal(clean, other)


def test_joint_attention_of_one_batch_row() -> None:
    tensors, mask = [x[:1] for x in operands(7, 5)], mask_of(5, [0, 1])
    out, out_text = KERNELS["joint_attention"]({"scale": 0.4})(*tensors, mask)
    expected, expected_text = attention_by_rows.joint_attention(tensors, mask, 0.4)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(out_text.double(), expected_text, rtol=0, atol=1e-5)
