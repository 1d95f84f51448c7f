"""Matrix products. Weights are [in, out]."""

import ttnn

from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder

MATMUL: dict[str, Builder] = {
    "matmul": calls(ttnn.matmul, "compute"),
    "experimental.minimal_matmul": calls(
        ttnn.experimental.minimal_matmul, "fuse_swiglu compute", tensors="bias_tensor"
    ),
}
