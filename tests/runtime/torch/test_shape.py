"""Ops that move elements, against numpy."""

import numpy as np
import pytest
import torch

from tests.runtime.torch.programs import kernel, normal

X = normal(0, 2, 3, 4)
A = X.numpy()


def test_reshape() -> None:
    assert np.array_equal(kernel("reshape", X, shape=[4, 6]), A.reshape(4, 6))
    moved = X.permute(2, 0, 1)  # not contiguous
    assert np.array_equal(kernel("reshape", moved, shape=[4, 6]), A.transpose(2, 0, 1).reshape(4, 6))


def test_permute() -> None:
    assert np.array_equal(kernel("permute", X, dims=[2, 0, 1]), A.transpose(2, 0, 1))


def test_slice() -> None:
    assert np.array_equal(kernel("slice", X, dim=1, start=1, stop=3), A[:, 1:3])


def test_concat() -> None:
    y = normal(1, 2, 5, 4)
    assert np.array_equal(kernel("concat", X, y, X, dim=1), np.concatenate([A, y.numpy(), A], 1))


def test_expand() -> None:
    assert np.array_equal(kernel("expand", X[:, :1], shape=[5, 2, 3, 4]), np.broadcast_to(A[:, :1], (5, 2, 3, 4)))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_select_removes_the_dimension(dim: int) -> None:
    y = kernel("select", X, torch.tensor([1], dtype=torch.int32), dim=dim)
    assert np.array_equal(y, A.take(1, dim))


def test_select_past_the_end_is_an_error() -> None:
    with pytest.raises((IndexError, RuntimeError)):  # which one depends on the shape
        kernel("select", X, torch.tensor([3], dtype=torch.int32), dim=1)


def test_embedding() -> None:
    table, ids = normal(0, 7, 4), torch.tensor([[6, 0, 6]], dtype=torch.int32)
    assert np.array_equal(kernel("embedding", table, ids), table.numpy()[ids.numpy()])
