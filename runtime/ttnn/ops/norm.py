"""Normalisations and the reductions that they are made of."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder

_REDUCTION = "dim keepdim scalar memory_config compute"

NORM: dict[str, Builder] = {
    "rms_norm": calls(ttnn.rms_norm, "epsilon memory_config compute", tensors="weight bias residual_input_tensor"),
    "layer_norm": calls(ttnn.layer_norm, "epsilon memory_config compute", tensors="weight bias residual_input_tensor"),
    "softmax": calls(ttnn.softmax, "dim numeric_stable memory_config compute"),
    "sum": calls(ttnn.sum, _REDUCTION),
    "mean": calls(ttnn.mean, _REDUCTION),
    "var": calls(ttnn.var, f"{_REDUCTION} correction"),
}
