"""torch's dtypes by the names that programs have for them."""

import torch

from mochi_aot.artifacts.dtypes import DTYPES, PROGRAM_DTYPES

TORCH_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype.torch) for name, dtype in DTYPES.items()}
TRACED_DTYPES = {TORCH_DTYPES[name]: name for name in PROGRAM_DTYPES}  # those that programs may have
