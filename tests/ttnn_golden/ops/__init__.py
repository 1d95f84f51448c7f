"""What each op of the ttnn target computes, by its path below `ttnn`."""

from tests.ttnn_golden.ops.attention import ATTENTION
from tests.ttnn_golden.ops.collectives import COLLECTIVES
from tests.ttnn_golden.ops.elementwise import ELEMENTWISE
from tests.ttnn_golden.ops.matmul import MATMUL
from tests.ttnn_golden.ops.norm import NORM
from tests.ttnn_golden.ops.shape import SHAPE
from tests.ttnn_golden.ops.video import VIDEO
from tests.ttnn_golden.types import Golden

GOLDEN: dict[str, Golden] = {**ELEMENTWISE, **SHAPE, **MATMUL, **NORM, **ATTENTION, **COLLECTIVES, **VIDEO}
