"""Numbers that are none: infinities, and what is not a number."""

from collections.abc import Iterable

import torch

from mochi_aot.runtime.torch.float8 import FLOAT8


def count_nonfinite(
    x: torch.Tensor, extents: tuple[int | None, ...], before: torch.Tensor | None = None
) -> torch.Tensor:
    """Return how many elements of x [B,T,H,W,C] are not finite, added to the count `before`: float32 [1,1].

    Per dimension only the first extents[dim] count. Counting takes far longer than finding that all are finite.
    """
    valid = x[tuple(slice(extent) for extent in extents)]
    total = x.new_zeros((1, 1), dtype=torch.float32) if before is None else before
    return total if all_finite(valid) else total + (valid.numel() - torch.isfinite(valid).sum())


def nonfinite_kinds(tensors: Iterable[torch.Tensor]) -> list[str]:
    """Return which of "NaN", "inf" and "-inf" are in any of the tensors."""
    wide = (x.bfloat16() if x.dtype is FLOAT8 else x for x in tensors)  # torch has no such tests of float8
    strange = [x for x in wide if x.is_floating_point() and not all_finite(x)]
    tests = {"NaN": torch.isnan, "inf": torch.isposinf, "-inf": torch.isneginf}
    return [kind for kind, test in tests.items() if any(bool(test(x).any()) for x in strange)]


def all_finite(x: torch.Tensor) -> bool:
    """Return whether all elements are finite: the extremes are, and NaN is both of them where there is one.

    This is many times faster than asking each element.
    """
    return x.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(x))).all())
