"""Normalisations and the reductions that they are made of."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder

_REDUCTION = "dim keepdim compute"

NORM: dict[str, Builder] = {
    "rms_norm": calls(ttnn.rms_norm, "epsilon compute", tensors="weight"),
    "softmax": calls(ttnn.softmax, "dim compute"),
    "sum": calls(ttnn.sum, _REDUCTION),
    "mean": calls(ttnn.mean, _REDUCTION),
    "var": calls(ttnn.var, f"{_REDUCTION} correction"),
}
