"""Ops that move elements."""

from typing import Any

from torch import Tensor

from tests.ttnn_golden.local import golden_function, local, theirs
from tests.ttnn_golden.types import Attrs, Golden


def _concat(attrs: Attrs, *parts: Tensor) -> Any:
    return golden_function("concat")(parts, dim=attrs["dim"])


def _create_heads(attrs: Attrs, x: Tensor) -> tuple[Tensor, ...]:
    """[B, 1, S, (heads + 2 kv heads) * D], queries then keys then values, as three [B, heads, S, D].

    Keys are [B, kv heads, D, S] if transpose_k_heads, which is ttnn's default.
    """
    heads = attrs["num_heads"]
    kv_heads = attrs.get("num_kv_heads", heads)
    split = x.squeeze(1).unflatten(-1, (heads + 2 * kv_heads, -1)).transpose(1, 2)
    q, k, v = split.split([heads, kv_heads, kv_heads], dim=1)
    return q, k.transpose(2, 3) if attrs.get("transpose_k_heads", True) else k, v


def _concat_heads(attrs: Attrs, x: Tensor) -> Tensor:
    """[B, heads, S, D] as [B, 1, S, heads * D]."""
    return x.transpose(1, 2).flatten(2).unsqueeze(1)


SHAPE: dict[str, Golden] = {
    "concat": local(_concat, "dim"),
    "embedding": theirs("embedding", like=1),
    "expand": theirs("expand", "output_shape"),
    "experimental.nlp_concat_heads": local(_concat_heads),
    "experimental.nlp_create_qkv_heads": local(_create_heads, "num_heads num_kv_heads transpose_k_heads"),
    "pad": theirs("pad", "padding value"),
    "permute": theirs("permute", "dims"),
    "repeat": theirs("repeat", "repeat_dims"),
    "reshape": theirs("reshape", "shape"),
    "slice": theirs("slice", "slice_start slice_end slice_step"),
    "to_layout": theirs("to_layout"),
    "to_memory_config": theirs("to_memory_config"),
    "transformer.concatenate_heads": theirs("transformer.concatenate_heads"),
    "transformer.split_query_key_value_and_split_heads": theirs(
        "transformer.split_query_key_value_and_split_heads", named="num_heads num_kv_heads transpose_key"
    ),
    "transpose": theirs("transpose", "dim1 dim2"),
}
