"""Convolution and group norm against torch. float32 sums of about 100 terms in another order: 1e-5 of the largest."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.ir.program import Attrs
from tests.compiler.ir.one_op import apply, near, normal

TOLERANCE = 1e-5


def torch_conv3d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: list[int], padding: list[int]) -> Tensor:
    front, h_low, h_high, w_low, w_high = padding
    padded = F.pad(
        torch.from_numpy(x).permute(0, 4, 1, 2, 3), (w_low, w_high, h_low, h_high, front, 0), mode="replicate"
    )
    bias = None if b is None else torch.from_numpy(b)
    return F.conv3d(padded, torch.from_numpy(w), bias, stride).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("stride", [[1, 1, 1], [2, 2, 2], [1, 2, 3]])
@pytest.mark.parametrize("padding", [[2, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 2, 0, 0, 3]])
@pytest.mark.parametrize("bias", [False, True])
def test_causal_conv3d(kernel: tuple[int, int, int], stride: list[int], padding: list[int], bias: bool) -> None:
    x, w, b = normal(1, 2, 4, 5, 6, 3), normal(2, 4, 3, *kernel), normal(3, 4) if bias else None
    operands = [x, w] if b is None else [x, w, b]
    (y,) = apply("causal_conv3d", {"stride": stride, "padding": padding}, *operands)
    near(y, torch_conv3d(x, w, b, stride, padding), TOLERANCE)


def test_no_frame_sees_a_later_one() -> None:
    x, w = normal(1, 1, 4, 3, 3, 2), normal(2, 2, 2, 3, 3, 3)
    attrs: Attrs = {"stride": [1, 1, 1], "padding": [2, 1, 1, 1, 1]}
    (whole,), (start,) = apply("causal_conv3d", attrs, x, w), apply("causal_conv3d", attrs, x[:, :2], w)
    near(whole[:, :2], start, TOLERANCE)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_is_per_frame(groups: int) -> None:
    x, w, b = 3 + 2 * normal(1, 2, 3, 4, 5, 6), normal(2, 6), normal(3, 6)
    (y,) = apply("group_norm", {"groups": groups, "eps": 1e-5}, x, w, b)
    frames = torch.from_numpy(x).reshape(6, 4, 5, 6).permute(0, 3, 1, 2)
    expected = F.group_norm(frames, groups, torch.from_numpy(w), torch.from_numpy(b), 1e-5)
    near(y, expected.permute(0, 2, 3, 1).reshape(x.shape), TOLERANCE)


def test_statistics_then_apply_equals_group_norm() -> None:
    x, w, b = 3 + 2 * normal(1, 2, 3, 4, 5, 6), normal(2, 6), normal(3, 6)
    (stats,) = apply("group_norm_stats", {"groups": 2, "valid": []}, x)
    assert stats.shape == (1, 1, 2, 3, 2, 3)
    assert (stats[..., 0] == 4 * 5 * 3).all()
    (y,) = apply("group_norm_apply", {"eps": 1e-5}, x, stats, w, b)
    near(y, apply("group_norm", {"groups": 2, "eps": 1e-5}, x, w, b)[0], TOLERANCE)


def test_apply_combines_parts_and_ignores_empty_ones() -> None:
    x, w, b = 3 + 2 * normal(1, 1, 2, 4, 5, 6), normal(2, 6), normal(3, 6)
    attrs: Attrs = {"groups": 2, "valid": []}
    parts = [apply("group_norm_stats", attrs, x[:, :, start:stop])[0] for start, stop in ((0, 1), (1, 4))]
    stats = np.concatenate([*parts, np.zeros_like(parts[0])], 0)
    (y,) = apply("group_norm_apply", {"eps": 1e-5}, x, stats, w, b)
    near(y, apply("group_norm", {"groups": 2, "eps": 1e-5}, x, w, b)[0], TOLERANCE)
