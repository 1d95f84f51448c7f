"""The dtype that parameters are made in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def parameters_in(dtype: torch.dtype) -> Iterator[None]:
    """Make parameters of modules in `dtype` within the block: no copy is made, and it works on fake tensors too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
