"""The operations for training against the reference's, and their derivatives against finite differences."""

import pytest
import torch
from torch import Tensor

from mochi_aot.compiler.reference import ops
from mochi_aot.tools.training import differentiable

TOLERANCE = 2e-5  # float32 in another order of summation


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks() -> Tensor:
    return torch.tensor([[True, True, False], [False, False, False]])


CASES = {
    "annotate": (random(2, 3), "name"),
    "rms_norm": (random(2, 5, 8), random(8, seed=1), 1e-6),
    "rope": (random(2, 5, 3, 8), random(5, 3, 4, seed=1), random(5, 3, 4, seed=2)),
    "joint_attention": (
        *(random(2, 6, 2, 8, seed=seed) for seed in range(3)),
        *(random(2, 3, 2, 8, seed=seed) for seed in range(3, 6)),
        masks(),
        0.3,
    ),
    "causal_conv3d": (random(2, 5, 4, 6, 3), random(4, 3, 3, 3, 3, seed=1), random(4, seed=2), [1, 1, 1]),
    "group_norm": (random(2, 3, 4, 5, 8), random(8, seed=1), random(8, seed=2), 4, 1e-5),
}


def test_all_of_them_are_tried() -> None:
    assert tuple(CASES) == differentiable.NAMES


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_references(name: str) -> None:
    got, expected = getattr(differentiable, name)(*CASES[name]), getattr(ops, name)(*CASES[name])
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for one, other in pairs:
        assert one.shape == other.shape and one.dtype == other.dtype
        assert (one - other).abs().max() < TOLERANCE


@pytest.mark.parametrize("stride", [[1, 2, 2], [3, 2, 2]])
def test_strided_convolutions(stride: list[int]) -> None:
    x, weight = random(1, 7, 4, 6, 3), random(4, 3, *stride, seed=1)
    got = differentiable.causal_conv3d(x, weight, None, stride)
    assert (got - ops.causal_conv3d(x, weight, None, stride)).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", [name for name in CASES if name != "annotate"])
def test_derivatives(name: str) -> None:
    arguments = [value.clone() if isinstance(value, Tensor) else value for value in CASES[name]]
    direction = random(*arguments[0].shape, seed=9)
    arguments[0].requires_grad_()

    def total(x: Tensor) -> Tensor:
        out = getattr(differentiable, name)(x, *arguments[1:])
        return (out[0] if isinstance(out, tuple) else out).double().square().sum()

    (slope,) = torch.autograd.grad(total(arguments[0]), arguments[0])
    step = 1e-2
    with torch.no_grad():
        measured = (total(arguments[0] + step * direction) - total(arguments[0] - step * direction)) / (2 * step)
    # A central difference in float32: the third derivative's share and rounding are each a few thousandths.
    assert (slope * direction).sum().item() == pytest.approx(measured.item(), rel=1e-2, abs=1e-2)


def test_the_reference_has_its_own_again() -> None:
    before = ops.rms_norm
    with differentiable.differentiable_ops():
        assert ops.rms_norm is differentiable.rms_norm
    assert ops.rms_norm is before
    with pytest.raises(RuntimeError, match="stop"), differentiable.differentiable_ops():
        raise RuntimeError("stop")
    assert ops.rms_norm is before
