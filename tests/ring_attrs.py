"""Attributes of a ring attention, as the ttnn lowering gives them."""

from mochi_aot.artifacts.schema import Attr

RING = "transformer.ring_joint_scaled_dot_product_attention"


def ring_attrs(buffer: list[int], text_buffer: list[int], size: int, **others: Attr) -> dict[str, Attr]:
    """Return attributes for `size` real tokens on all columns; the buffers are shapes [B, H, tokens of all, Dh].

    `others` replace what is said here: blocks of 64 tokens, bfloat16, a scale of 0.1.
    """
    made: dict[str, Attr] = {"kw": ["logical_l"], "axis": 1, "dtype": "bfloat16", "program_config": [64, 64]}
    made |= {"size": size, "buffer": [*buffer], "text_buffer": [*text_buffer]}
    return {**made, "scale": 0.1, "compute": "hifi2_bf16acc", **others}
