"""Functions that move elements, all of them ttnn's own definitions."""

from typing import Any

import ttnn

from mochi_aot.tools.golden.local import golden_function, local, on_each_chip, theirs
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition


def _concat(mesh: ChipMesh, tensors: list[Chips], *, dim: int) -> Any:
    def call(*pieces: Any) -> Any:
        return golden_function("concat")(pieces, dim=dim)

    return on_each_chip(mesh, call, tensors, {}, tensors[0].dtype, tensors[0].layout)


def _to_layout(mesh: ChipMesh, x: Chips, *, layout: ttnn.Layout) -> Chips:
    return Chips(x.pieces, x.dtype, layout)


def _embedding(mesh: ChipMesh, ids: Chips, table: Chips, *, layout: ttnn.Layout = ttnn.ROW_MAJOR_LAYOUT) -> Any:
    return on_each_chip(mesh, golden_function("embedding"), [ids, table], {}, table.dtype, layout)


THEIRS: dict[str, Definition] = {
    "concat": _concat,
    "embedding": _embedding,
    "pad": theirs("pad", required="padding value"),
    "permute": theirs("permute", required="dims"),
    "repeat": local(lambda x, repeat_dims: golden_function("repeat")(x, repeat_dims), required="repeat_dims"),
    "reshape": theirs("reshape", required="shape"),
    "slice": theirs("slice", required="slice_start slice_end"),
    "to_layout": _to_layout,
    "transformer.concatenate_heads": theirs("transformer.concatenate_heads"),
    "transformer.split_query_key_value_and_split_heads": theirs(
        "transformer.split_query_key_value_and_split_heads", "num_heads transpose_key"
    ),
}
OURS: dict[str, Definition] = {}
