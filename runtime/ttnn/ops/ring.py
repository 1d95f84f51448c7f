"""Ring attention: keys and values travel along a mesh axis while each chip attends with its own queries."""

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.types import Attrs, Builder, Call


def _ring_joint(attrs: Attrs, context: Context) -> Call:
    """Operands q, k, v [B, H, N, Dh] of a chip's tokens, q, k, v [B, H, L, Dh] of its share of the text, and how many
    tokens of the whole text are attended, uint32 [1]: they come first, and those after them are masked.

    attrs: `axis`; `size`, how many tokens of all chips are real; `text_size`, how many of the text can be, which is
    for artifacts/ttnn_defects.py alone; `buffer` [B, H, all N, Dh], `text_buffer` [B, H, all L, Dh] and their `dtype`,
    for the keys and values that arrive; `program_config` [queries, keys], the tokens of a chunk; `scale`; `compute`.
    """
    if attrs["kw"] != ["logical_l"]:
        raise ValueError(f"operands by keyword {attrs['kw']}, expected the length of the text as logical_l")
    use = ("ring_joint", attrs["axis"])
    turn = context.turn(use)
    _, y = context.grid
    passed = {
        **_buffers(attrs, context, turn),
        "multi_device_global_semaphore": context.semaphores((*use, turn), 2),
        "joint_strategy": "rear",
        "logical_n": attrs["size"],
        "program_config": _config(attrs["program_config"], context, turn),
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


def _buffers(attrs: Attrs, context: Context, turn: int) -> dict[str, ttnn.Tensor]:
    """Where the other chips' keys and values arrive. Older bundles have no buffers for the text's: a known defect."""
    made = {}
    kinds = {"": "buffer", "joint_": "text_buffer"} if "text_buffer" in attrs else {"": "buffer"}
    for kind, name in kinds.items():
        for part in ("k", "v"):
            use = ("ring_joint", turn, kind, part)
            made[f"persistent_output_buffer_{kind}{part}"] = context.buffer(use, attrs[name], attrs["dtype"])
    return made


def _config(sizes: list[int], context: Context, turn: int) -> ttnn.SDPAProgramConfig:
    """Tokens in a chunk of queries and of keys; on all cores but the last row, which sends and receives.

    ttnn keeps a program for each config, and in it the semaphores of its first call. `max_cores_per_head_batch` says
    nothing to this op, so that it can tell the turns apart: with one config, both would use the same semaphores.
    """
    queries, keys = sizes
    x, y = context.grid
    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(x, y - 1),
        q_chunk_size=queries,
        k_chunk_size=keys,
        exp_approx_mode=False,
        max_cores_per_head_batch=x * y + turn,
    )


RING: dict[str, Builder] = {"transformer.ring_joint_scaled_dot_product_attention": _ring_joint}
