"""Ops that move or choose elements, or change how a device stores them. Results may share their operand's buffer."""

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Attrs, Builder, Call


def _concat(attrs: Attrs, context: Context) -> Call:
    return calls(lambda *tensors, **passed: ttnn.concat(list(tensors), **passed), "dim")(attrs, context)


SHAPE: dict[str, Builder] = {
    "reshape": calls(ttnn.reshape, "shape"),
    "permute": calls(ttnn.permute, "dims"),
    "slice": calls(ttnn.slice, "slice_start slice_end"),
    "pad": calls(ttnn.pad, "padding value"),
    "concat": _concat,
    "repeat": calls(ttnn.repeat, "repeat_dims"),
    "to_layout": calls(ttnn.to_layout, "layout"),
    "embedding": calls(ttnn.embedding, "layout"),
}
