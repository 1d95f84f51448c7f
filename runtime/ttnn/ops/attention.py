"""Attention on one chip, heads, and rotary position embedding."""

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Builder


def _config(sizes: list[int], context: Context) -> ttnn.SDPAProgramConfig:
    """Tokens in a chunk of queries and of keys; on all cores."""
    queries, keys = sizes
    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(*context.grid),
        q_chunk_size=queries,
        k_chunk_size=keys,
        exp_approx_mode=False,
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
}
