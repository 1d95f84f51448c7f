"""The closed table of instructions: a program can name nothing that is not in it."""

from mochi_aot.runtime.ttnn.ops.attention import ATTENTION
from mochi_aot.runtime.ttnn.ops.call import Builder
from mochi_aot.runtime.ttnn.ops.plain import PLAIN
from mochi_aot.runtime.ttnn.ops.video import VIDEO

OPS: dict[str, Builder] = {**PLAIN, **ATTENTION, **VIDEO}
