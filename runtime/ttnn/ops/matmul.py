"""Matrix products. Weights are [in, out]."""

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder


def _minimal_config(sizes: list[int], context: Context) -> ttnn.MinimalMatmulConfig:
    """Sizes in tiles: block M, K, N, subblock height, width; on all cores."""
    rows, inner, columns, height, width = sizes
    return ttnn.MinimalMatmulConfig(
        M_block_size=rows,
        K_block_size=inner,
        N_block_size=columns,
        subblock_h=height,
        subblock_w=width,
        compute_with_storage_grid_size=ttnn.CoreCoord(*context.grid),
    )


_COMMON = "dtype memory_config compute"

MATMUL: dict[str, Builder] = {
    "linear": calls(ttnn.linear, f"activation transpose_a transpose_b {_COMMON}", tensors="bias"),
    "matmul": calls(ttnn.matmul, f"transpose_a transpose_b {_COMMON}"),
    "experimental.minimal_matmul": calls(
        ttnn.experimental.minimal_matmul,
        f"fuse_swiglu {_COMMON}",
        tensors="bias_tensor",
        config=("config", _minimal_config),
    ),
}
