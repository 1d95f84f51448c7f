"""Whether weights are numbers."""

import numpy as np
import torch

from mochi_aot.compiler.checkpoint.errors import WeightError


def check_finite(rows: torch.Tensor, first: int, what: str) -> None:
    """Raise WeightError, naming `what` and the index, for the first element that is not finite.

    `rows` are those of a tensor from row `first` on, or a number alone, which has no index.
    """
    if rows.numel() == 0 or torch.isfinite(torch.stack(torch.aminmax(rows))).all():
        return  # as runtime.torch.finite has it, which the compiler may not import
    place = int(torch.isfinite(rows.reshape(-1)).logical_not().to(torch.uint8).argmax())
    index = [int(i) for i in np.unravel_index(place, tuple(rows.shape))]
    if index:
        index[0] += first
    value = rows.reshape(-1)[place].item()
    advice = "copy the checkpoint again, or compile it as it is with --no-check-weights"
    raise WeightError(f"{what}{index or ''} is {value}, which is not a finite number: {advice}")
