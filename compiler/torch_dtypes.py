"""torch's dtypes by the names that programs have for them."""

import torch

from mochi_aot.artifacts.dtypes import DTYPES

TORCH_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
