"""How far what a chip made is from what a definition makes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Measured on the simulator over whole programs, in the dtypes of bundles: every op has a PCC of at least 0.9999 and a
# relative error of at most 0.01, but for ring attention with 0.9997 and 0.023 (docs/ttnn.md).
LEAST_PCC = 0.999
# Of numbers that hardly differ from each other the rounding of bfloat16, 0.0017 of each, is most of what differs.
# A PCC below the limit is then no departure, if the error is not more than two roundings.
ROUNDING = 0.004
MOST_ERROR = 0.05  # a factor, or something added, which a PCC is blind to
_MASKED = -1e29  # what is added to the score of a masked token: a softmax does not tell such numbers apart


@dataclass(frozen=True)
class Agreement:
    """Pearson's correlation, and the error's root mean square relative to that of what was expected."""

    pcc: float
    error: float
    exact: bool = False  # whole numbers, which must be equal

    @property
    def departs(self) -> bool:
        if self.exact:
            return self.error > 0
        return not self.error <= MOST_ERROR or (self.pcc < LEAST_PCC and self.error > ROUNDING)


def agreement(actual: Tensor, expected: Tensor) -> Agreement:
    """Compare two tensors. Another shape, or a number that is not finite in one alone, is as wrong as can be."""
    if actual.shape != expected.shape:
        return Agreement(0.0, math.inf)
    exact = not expected.is_floating_point()
    a, b = (tensor.double().flatten() for tensor in (actual, expected))
    same = ((a < _MASKED) & (b < _MASKED)) | (a == b) | (a.isnan() & b.isnan())
    a, b = a.masked_fill(same & ~a.isfinite(), 0), b.masked_fill(same & ~b.isfinite(), 0)
    masked = (a < _MASKED) & (b < _MASKED)
    a, b = a.masked_fill(masked, 0), b.masked_fill(masked, 0)
    if not (a.isfinite().all() and b.isfinite().all()):
        return Agreement(0.0, math.inf, exact)
    return Agreement(pcc(a, b), _relative(a - b, b), exact)


def _relative(error: Tensor, expected: Tensor) -> float:
    size, scale = float(error.norm()), float(expected.norm())
    return size / scale if scale else (math.inf if size else 0.0)


def pcc(actual: Tensor, expected: Tensor) -> float:
    """Pearson's correlation; of a constant, one if both are the same and zero if not. Zero as well if a
    shape differs or a number is not finite."""
    if actual.shape != expected.shape:
        return 0.0
    a, b = (tensor.double().flatten() for tensor in (actual, expected))
    if not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norms = float(a.norm() * b.norm())
    if norms == 0:
        return float(torch.allclose(actual.double(), expected.double(), rtol=1e-2, atol=1e-6))
    return float(a @ b) / norms
