"""Definitions that move or reduce elements, against torch: exact, but for the order of sums (a few roundings)."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.ir.program import Attrs
from tests.compiler.ir.one_op import apply, normal, tensors

X = normal(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("opcode", "attrs", "expected"),
    [
        ("reshape", {"shape": [6, 4]}, lambda t: t.reshape(6, 4)),
        ("permute", {"dims": [2, 0, 1]}, lambda t: t.permute(2, 0, 1)),
        ("slice", {"dim": 2, "start": 1, "stop": 3}, lambda t: t[:, :, 1:3]),
        ("expand", {"shape": [5, 2, 3, 4]}, lambda t: t.expand(5, 2, 3, 4)),
    ],
)
def test_moves_equal_torch(opcode: str, attrs: Attrs, expected: Callable[[Tensor], Tensor]) -> None:
    np.testing.assert_array_equal(apply(opcode, attrs, X)[0], expected(torch.from_numpy(X)))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_concat(dim: int) -> None:
    (y,) = apply("concat", {"dim": dim}, X, 2 * X, X)
    np.testing.assert_array_equal(y, torch.cat(tensors(X, 2 * X, X), dim))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_select_removes_the_dimension(dim: int) -> None:
    (y,) = apply("select", {"dim": dim}, X, np.array([1], np.int32))
    np.testing.assert_array_equal(y, torch.from_numpy(X).select(dim, 1))


def test_embedding() -> None:
    table, ids = normal(1, 7, 5), np.array([[6, 0, 3], [3, 3, 1]], np.int32)
    (y,) = apply("embedding", {}, table, ids)
    np.testing.assert_array_equal(y, F.embedding(torch.from_numpy(ids), torch.from_numpy(table)))


@pytest.mark.parametrize("opcode", ["sum", "mean"])
@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dims", [[1], [0, 2], [0, 1, 2]])
def test_reductions(opcode: str, keepdim: bool, dims: list[int]) -> None:
    (y,) = apply(opcode, {"dims": dims, "keepdim": keepdim}, X)
    expected = getattr(torch, opcode)(torch.from_numpy(X), dims, keepdim=keepdim)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    assert y.dtype == np.float32
    assert y.shape == tuple(expected.shape)
