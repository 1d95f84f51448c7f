"""Ops that move or choose elements, or change how a device stores them. Results may share their operand's buffer."""

import ttnn

from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops.call import calls
from mochi_aot.runtime.ttnn.ops.types import Attrs, Builder, Call


def _concat(attrs: Attrs, context: Context) -> Call:
    return calls(lambda *tensors, **passed: ttnn.concat(list(tensors), **passed), "dim memory_config")(attrs, context)


SHAPE: dict[str, Builder] = {
    "reshape": calls(ttnn.reshape, "shape memory_config"),
    "permute": calls(ttnn.permute, "dims memory_config"),
    "transpose": calls(ttnn.transpose, "dim1 dim2 memory_config"),
    "slice": calls(ttnn.slice, "slice_start slice_end slice_step memory_config"),
    "pad": calls(ttnn.pad, "padding value memory_config"),
    "concat": _concat,
    "expand": calls(ttnn.expand, "output_shape memory_config"),
    "repeat": calls(ttnn.repeat, "repeat_dims memory_config"),
    "to_layout": calls(ttnn.to_layout, "layout dtype memory_config"),
    "to_memory_config": calls(ttnn.to_memory_config, "memory_config dtype"),
    "embedding": calls(ttnn.embedding, "layout dtype memory_config"),
}
