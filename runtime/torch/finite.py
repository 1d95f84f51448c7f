"""Numbers that are none: infinities, and what is not a number."""

import torch


def count_nonfinite(
    x: torch.Tensor, extents: tuple[int | None, ...], before: torch.Tensor | None = None
) -> torch.Tensor:
    """How many elements of x [B,T,H,W,C] are not finite, added to the count `before`: float32 [1,1].

    Per dimension only the first extents[dim] count. A frame at a time: its temporaries fit the processor's cache.
    """
    valid = x[tuple(slice(extent) for extent in extents)]
    total = x.new_zeros((1, 1), dtype=torch.float32) if before is None else before
    for frame in valid.flatten(0, 1):
        total = total + (frame.numel() - torch.isfinite(frame).sum())
    return total
