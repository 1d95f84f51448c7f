"""One rule an IR op: which ttnn calls do its work."""

from mochi_aot.compiler.lower.ttnn.rules import attention, elementwise, group_norm, linear, mesh, norm, shape, video
from mochi_aot.compiler.lower.ttnn.rules.table import RULES

__all__ = ["RULES", "attention", "elementwise", "group_norm", "linear", "mesh", "norm", "shape", "video"]
