"""Which tokens of a text count, looked up once for each mask.

Attention is given only these, by their number, in the place of a mask over all: then kernels without a mask apply, and
padding costs nothing. How many they are is a shape, which the host has to know: it waits for a GPU to tell it, once a
prompt, and not in each layer of each step.
"""

from collections.abc import Sequence

import torch
from torch.utils.weak import WeakIdKeyDictionary

_known = WeakIdKeyDictionary()  # from a mask to its positions; values are never written in place


def valid_positions(mask: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return for each row of a mask [B,L] bool where it is true, int64 vectors on the mask's device."""
    positions: Sequence[torch.Tensor] | None = _known.get(mask)
    if positions is None:
        positions = [row.nonzero().squeeze(1) for row in mask]
        _known[mask] = positions
    return positions


def remember_positions(mask: torch.Tensor, positions: Sequence[torch.Tensor]) -> None:
    """Have `valid_positions` give these tensors for this one, whatever it holds: what a recorded program reads."""
    _known[mask] = positions
