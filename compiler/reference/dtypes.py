"""The dtype that parameters are made in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def parameters_in(dtype: torch.dtype) -> Iterator[None]:
    """Within it, modules make their parameters in `dtype`: no copy is made, and it works on fake tensors too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
