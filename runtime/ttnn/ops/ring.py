"""Ring attention: keys and values travel along a mesh axis while each chip attends with its own queries."""

from typing import Any

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.types import Attrs, Builder, Call


def _ring_joint(attrs: Attrs, context: Context) -> Call:
    """Operands q, k, v [B, H, N, Dh] of a chip's tokens, q, k, v [B, H, L, Dh] of its share of the text, and how many
    tokens of the whole text are attended, uint32 [1]: they come first, and those after them are masked.

    attrs: `axis`; `size`, how many tokens of all chips are real; `buffer` [B, H, all N, Dh] and its `dtype`, for the
    keys and values that arrive; `program_config` [queries, keys], the tokens of a chunk; `scale`; `compute`.
    """
    if attrs["kw"] != ["logical_l"]:
        raise ValueError(f"operands by keyword {attrs['kw']}, expected the length of the text as logical_l")
    queries, keys = attrs["program_config"]
    x, y = context.grid
    shape, dtype = attrs["buffer"], attrs["dtype"]

    def make() -> dict[str, Any]:
        return {
            "persistent_output_buffer_k": context.buffer(shape, dtype),
            "persistent_output_buffer_v": context.buffer(shape, dtype),
            "multi_device_global_semaphore": context.semaphores(2),
        }

    passed = {
        **context.shared(("ring_joint", *shape, dtype), make),
        "joint_strategy": "rear",
        "logical_n": attrs["size"],
        # The last row of cores sends and receives.
        "program_config": ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(x, y - 1),
            q_chunk_size=queries,
            k_chunk_size=keys,
            exp_approx_mode=False,
        ),
        "ccl_core_grid_offset": ttnn.CoreCoord(0, y - 1),
        "scale": attrs["scale"],
        "compute_kernel_config": context.compute(attrs["compute"]),
        "dim": 2,
        "num_links": ttnn.get_num_links(context.mesh, attrs["axis"]),
        "cluster_axis": attrs["axis"],
        "mesh_device": context.mesh,
        "topology": ttnn.Topology.Linear,
    }
    function = ttnn.transformer.ring_joint_scaled_dot_product_attention
    # The third result is of no use outside of it.
    return lambda *tensors: function(*tensors[:6], logical_l=tensors[6], **passed)[:2]


RING: dict[str, Builder] = {"transformer.ring_joint_scaled_dot_product_attention": _ring_joint}
