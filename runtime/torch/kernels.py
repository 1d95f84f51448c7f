"""The closed table of ops. A program can name nothing that is not in it, or in COLLECTIVES."""

from mochi_aot.runtime.torch.attention import ATTENTION
from mochi_aot.runtime.torch.convolution import CONVOLUTION
from mochi_aot.runtime.torch.elementwise import ELEMENTWISE
from mochi_aot.runtime.torch.group_norm import GROUP_NORM
from mochi_aot.runtime.torch.nn import NN
from mochi_aot.runtime.torch.shape import SHAPE
from mochi_aot.runtime.torch.types import Builder

KERNELS: dict[str, Builder] = {**ELEMENTWISE, **SHAPE, **NN, **ATTENTION, **CONVOLUTION, **GROUP_NORM}
