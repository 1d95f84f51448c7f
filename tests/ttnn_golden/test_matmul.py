import pytest
import torch
from torch.nn import functional as F

from tests.ttnn_golden.chips import normal, on_one

X, W, B = normal(0, 2, 5, 64), normal(1, 64, 128), normal(2, 1, 128)
MINIMAL = "experimental.minimal_matmul"


def test_linear_and_matmul():
    expected = F.linear(X, W.T, B[0])
    torch.testing.assert_close(on_one("linear", X, W, B, kw=["bias"]), expected)
    torch.testing.assert_close(on_one("linear", X, W, B, kw=["bias"], activation="silu"), F.silu(expected))
    torch.testing.assert_close(on_one("matmul", X, W.T, transpose_b=True), X @ W)


def test_minimal_matmul():
    torch.testing.assert_close(on_one(MINIMAL, X, W), X @ W)
    torch.testing.assert_close(on_one(MINIMAL, X, W, B, kw=["bias_tensor"]), X @ W + B)
    torch.testing.assert_close(on_one(MINIMAL, X, W[None], fused_activation="silu"), F.silu(X @ W))


@pytest.mark.parametrize("with_bias", [False, True])
def test_swiglu_takes_gate_and_up_from_alternate_tiles(with_bias):
    gate, up = normal(1, 64, 64), normal(2, 64, 64)
    gate_bias, up_bias = normal(3, 1, 64) * with_bias, normal(4, 1, 64) * with_bias

    def paired(a, b):
        return torch.cat([a[:, :32], b[:, :32], a[:, 32:], b[:, 32:]], dim=1)

    bias = {"kw": ["bias_tensor"]} if with_bias else {}
    operands = [X, paired(gate, up)] + [paired(gate_bias, up_bias)] * with_bias
    expected = F.silu(X @ gate + gate_bias) * (X @ up + up_bias)
    torch.testing.assert_close(on_one(MINIMAL, *operands, fuse_swiglu=True, **bias), expected)


def test_addcmul_after_a_product():
    base, gate = normal(3, 2, 5, 128), normal(4, 1, 128)
    result = on_one(
        "experimental.dit_minimal_matmul_addcmul_fused", X, W, base, gate, B, kw=["bias_tensor"], scalar=0.5
    )
    torch.testing.assert_close(result, base + 0.5 * (X @ W + B) * gate)


def test_products_accumulate_in_float32():
    ones = torch.ones(1, 4096).bfloat16()
    assert on_one(MINIMAL, ones, ones.T).item() == 4096
