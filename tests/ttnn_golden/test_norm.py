import pytest
import torch
from torch.nn import functional as F

from tests.ttnn_golden.chips import MESH, golden, joined, normal, on_one, spread

X = normal(0, 2, 5, 64)


def test_rms_norm():
    weight = normal(1, 1, 64)
    expected = F.rms_norm(X, (64,), eps=1e-5)
    torch.testing.assert_close(on_one("rms_norm", X, epsilon=1e-5), expected)
    torch.testing.assert_close(on_one("rms_norm", X, weight, kw=["weight"], epsilon=1e-5), expected * weight)


def test_reductions():
    torch.testing.assert_close(on_one("sum", X, dim=[1, 2], keepdim=True), X.sum((1, 2), keepdim=True))
    torch.testing.assert_close(on_one("mean", X, dim=[2], keepdim=False), X.mean(2))
    variance = on_one("var", X, dim=1, keepdim=True, correction=False)
    torch.testing.assert_close(variance, X.var(1, keepdim=True, correction=0))
    torch.testing.assert_close(on_one("softmax", X, dim=2), X.softmax(2))


def _expected(whole, groups, weight, bias):
    return F.group_norm(whole.transpose(1, 3), groups, weight, bias, eps=1e-5).transpose(1, 3)


def test_group_norm():
    whole, weight, bias = normal(0, 2, 1, 24, 64), normal(1, 64), normal(2, 64)
    packed = [parameter.reshape(1, 1, 2, 32) for parameter in (weight, bias)]
    normed = on_one("group_norm", whole, *packed, kw=["weight", "bias"], num_groups=4, epsilon=1e-5)
    torch.testing.assert_close(normed, _expected(whole, 4, weight, bias))


@pytest.mark.parametrize("activation", [None, "silu"])
def test_a_distributed_group_norm_takes_statistics_over_the_axis(activation):
    whole, weight, bias = normal(0, 4, 1, 24, 64) * 3 + 1, normal(1, 64), normal(2, 64)
    packed = [[parameter.reshape(1, 1, 2, 32)] * MESH.size for parameter in (weight, bias)]
    (normed,) = golden(
        "experimental.dit_fused_distributed_groupnorm",
        spread(whole, MESH, rows=0, columns=2),
        *packed,
        kw=["weight", "bias"],
        num_groups=4,
        epsilon=1e-5,
        axis=1,
        activation=activation,
    )
    expected = _expected(whole, 4, weight, bias)
    torch.testing.assert_close(joined(normed, MESH, rows=0, columns=2), F.silu(expected) if activation else expected)
