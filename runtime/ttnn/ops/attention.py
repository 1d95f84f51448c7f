"""Attention on one chip and around a ring, heads, and rotary position embedding.

Around a ring, keys and values travel along a mesh axis while each chip attends with its own queries.
"""

import ttnn

from mochi_aot.runtime.executor import Call
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import Attrs, Builder, calls


def _config(sizes: list[int], context: Context) -> ttnn.SDPAProgramConfig:
    """Return the config for chunks of these `sizes`, tokens of queries and of keys, on all cores."""
    queries, keys = sizes
    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(*context.grid),
        q_chunk_size=queries,
        k_chunk_size=keys,
        exp_approx_mode=False,
    )


def _ring_joint(attrs: Attrs, context: Context) -> Call:
    """Build a call with operands q, k, v [B, H, N, Dh] of a chip's tokens, q, k, v [B, H, L, Dh] of its share of the
    text, and the number of tokens of the whole text that are attended to, uint32 [1]: its first ones.

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
        "program_config": _ring_config(attrs["program_config"], context, turn),
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
    # The third result, the log-sum-exp of the scores, is of no use outside of the op.
    return lambda *tensors: function(*tensors[:6], logical_l=tensors[6], **passed)[:2]


def _buffers(attrs: Attrs, context: Context, turn: int) -> dict[str, ttnn.Tensor]:
    """Return where the other chips' keys and values arrive.

    Bundles of older versions have no buffers for those of the text: a known defect.
    """
    made = {}
    kinds = {"": "buffer", "joint_": "text_buffer"} if "text_buffer" in attrs else {"": "buffer"}
    for kind, name in kinds.items():
        for part in ("k", "v"):
            use = ("ring_joint", turn, kind, part)
            made[f"persistent_output_buffer_{kind}{part}"] = context.buffer(use, attrs[name], attrs["dtype"])
    return made


def _ring_config(sizes: list[int], context: Context, turn: int) -> ttnn.SDPAProgramConfig:
    """Return the config for chunks of these `sizes` on all cores but the last row, which sends and receives.

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


ATTENTION: dict[str, Builder] = {
    "transformer.scaled_dot_product_attention": calls(
        ttnn.transformer.scaled_dot_product_attention,
        "is_causal scale compute",
        tensors="attn_mask",
        config=("program_config", _config),
    ),
    "transformer.split_query_key_value_and_split_heads": calls(
        ttnn.transformer.split_query_key_value_and_split_heads, "num_heads transpose_key"
    ),
    "transformer.concatenate_heads": calls(ttnn.transformer.concatenate_heads),
    "experimental.rotary_embedding_llama": calls(ttnn.experimental.rotary_embedding_llama, "is_decode_mode compute"),
    "transformer.ring_joint_scaled_dot_product_attention": _ring_joint,
}
