"""Preparations by the text that names of weights in bundles have for them: bundles are reused by these names."""

import pytest
import torch

from mochi_aot.compiler.lower.ttnn.prepare import (
    CONV3D,
    NONZERO_ROW,
    PLAIN,
    ROPE,
    ROW,
    SWIGLU,
    TRANSPOSED,
    Preparation,
    share_for,
    unfolded_by,
    unfolded_row_by,
)


@pytest.mark.parametrize(
    ("preparation", "text"),
    [
        (PLAIN, "plain"),
        (TRANSPOSED, "transposed"),
        (ROW, "row"),
        (SWIGLU, "swiglu"),
        (ROPE, "rope"),
        (CONV3D, "conv3d"),
        (NONZERO_ROW, "nonzero_row"),
        (share_for(4), "share:4"),
        (unfolded_by(24), "unfolded:24"),
        (unfolded_row_by(24), "unfolded_row:24"),
    ],
)
def test_text(preparation: Preparation, text: str) -> None:
    assert str(preparation) == text


def test_numbers_are_given_to_the_function() -> None:
    bias = torch.arange(1.0, 7.0)
    assert share_for(4)(bias).tolist() == [[0.25, 0.5, 0.75, 1.0, 1.25, 1.5]]
    assert unfolded_row_by(3)(bias).tolist() == [[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]]  # pixels first, then channels
    assert PLAIN(bias) is bias
