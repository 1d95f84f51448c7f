"""RoPE and attention."""

import torch
from torch import Tensor

from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.formats import dtype_of, stored, widened
from tests.ttnn_golden.local import by_keyword, golden_function, local, require_known, theirs
from tests.ttnn_golden.types import Attrs, Golden, GoldenError, Value

RING = "transformer.ring_joint_scaled_dot_product_attention"


def _rotary(attrs: Attrs, x: Tensor, cos: Tensor, sin: Tensor, trans_mat: Tensor) -> Tensor:
    """x * cos + (x @ trans_mat) * sin for x [B, heads, N, D] and tables [1, heads or 1, N, D].

    trans_mat [1, 1, 32, 32] works on each 32 columns of x.
    """
    if attrs.get("is_decode_mode", True):  # ttnn's default
        raise GoldenError("rotary_embedding_llama is defined here with is_decode_mode False only")
    size = trans_mat.shape[-1]
    rotated = (x.unflatten(-1, (-1, size)) @ trans_mat.reshape(size, size)).flatten(-2)
    return x * cos + rotated * sin


def _ring_joint(attrs: Attrs, mesh: Mesh, *operands: Value) -> list[Value]:
    """Attention of visual and text tokens, both spread over the chips of `axis`.

    Operands are q, k, v and the text's q, k, v [B, H, tokens of a chip, D], and logical_l [1]. All queries attend to
    the visual keys before `size` and to the text keys before logical_l, which may be 0 (to ttnn's own definition that
    means all). The attention itself is ttnn's. `buffer` and `dtype` are of the buffers that keys and values arrive in.
    """
    require_known(attrs, "axis size text_size scale buffer text_buffer dtype")
    (q, k, v, q_text, k_text, v_text), named = by_keyword(attrs, operands)
    lengths = named["logical_l"]
    visual, text = list(q), list(q_text)
    for group in mesh.groups(attrs["axis"]):
        visual_keys, visual_values = (_gathered(part, group)[:, :, : attrs["size"]] for part in (k, v))
        text_keys, text_values = (_gathered(part, group) for part in (k_text, v_text))
        for chip in group:
            length = int(lengths[chip])
            queries = torch.cat([widened(q[chip]), widened(q_text[chip])], dim=2)
            keys = torch.cat([visual_keys, text_keys[:, :, :length]], dim=2)
            values = torch.cat([visual_values, text_values[:, :, :length]], dim=2)
            out, *_ = golden_function(RING)(queries, keys, values, logical_n=keys.shape[2], scale=attrs.get("scale"))
            mixed = stored(out, dtype_of(q[chip]))
            visual[chip], text[chip] = mixed.split([q[chip].shape[2], q_text[chip].shape[2]], dim=2)
    return [visual, text]


def _gathered(value: Value, group: list[int]) -> Tensor:
    return torch.cat([widened(value[chip]) for chip in group], dim=2)


ATTENTION: dict[str, Golden] = {
    "experimental.rotary_embedding_llama": local(_rotary, "is_decode_mode"),
    RING: _ring_joint,
    "transformer.scaled_dot_product_attention": theirs(
        "transformer.scaled_dot_product_attention", named="is_causal scale"
    ),
}
