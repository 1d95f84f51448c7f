"""One rule an op: what placements it needs of its operands, and what its results then have."""

from mochi_aot.compiler.partition.rules import attention, elementwise, nn, shape, video
from mochi_aot.compiler.partition.rules.table import RULES

__all__ = ["RULES", "attention", "elementwise", "nn", "shape", "video"]
