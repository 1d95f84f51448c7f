"""RoPE and attention on one chip. ttnn defines attention; RoPE is defined here from its documentation."""

import ttnn
from torch import Tensor

from mochi_aot.tools.golden.local import golden_function, local
from mochi_aot.tools.golden.types import Definition, GoldenError


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, trans_mat: Tensor, is_decode_mode: bool = True) -> Tensor:
    """x * cos + (x @ trans_mat) * sin for x [B, heads, N, D] and tables [1, heads or 1, N, D].

    trans_mat [1, 1, 32, 32] works on each 32 columns of x.
    """
    if is_decode_mode:
        raise GoldenError("rotary_embedding_llama is defined here with is_decode_mode False only")
    size = trans_mat.shape[-1]
    rotated = (x.unflatten(-1, (-1, size)) @ trans_mat.reshape(size, size)).flatten(-2)
    return x * cos + rotated * sin


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    program_config: ttnn.SDPAProgramConfig,
    attn_mask: Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """ttnn's definition. It does not depend on the chunks."""
    attend = golden_function("transformer.scaled_dot_product_attention")
    mixed: Tensor = attend(q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=scale)
    return mixed


THEIRS: dict[str, Definition] = {
    "transformer.scaled_dot_product_attention": local(
        _attention, "attn_mask is_causal scale", required="program_config compute_kernel_config"
    )
}
OURS: dict[str, Definition] = {
    "experimental.rotary_embedding_llama": local(_rotary, "is_decode_mode", required="compute_kernel_config")
}
