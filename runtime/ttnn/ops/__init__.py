"""The closed table of instructions: a program can name nothing that is not in it."""

from mochi_aot.runtime.ttnn.ops.attention import ATTENTION
from mochi_aot.runtime.ttnn.ops.collectives import COLLECTIVES
from mochi_aot.runtime.ttnn.ops.elementwise import ELEMENTWISE
from mochi_aot.runtime.ttnn.ops.matmul import MATMUL
from mochi_aot.runtime.ttnn.ops.norm import NORM
from mochi_aot.runtime.ttnn.ops.ring import RING
from mochi_aot.runtime.ttnn.ops.shape import SHAPE
from mochi_aot.runtime.ttnn.ops.types import Builder
from mochi_aot.runtime.ttnn.ops.video import VIDEO

OPS: dict[str, Builder] = {**ELEMENTWISE, **SHAPE, **MATMUL, **NORM, **COLLECTIVES, **ATTENTION, **RING, **VIDEO}
