"""One rule an IR op: which ttnn calls do its work."""

from mochi_aot.compiler.lower.ttnn.rules import (
    attention,
    elementwise,
    finite,
    group_norm,
    linear,
    lookup,
    mesh,
    norm,
    pixels,
    shape,
    video,
)
from mochi_aot.compiler.lower.ttnn.rules.table import rule_for

__all__ = [
    "attention",
    "elementwise",
    "finite",
    "group_norm",
    "linear",
    "lookup",
    "mesh",
    "norm",
    "pixels",
    "rule_for",
    "shape",
    "video",
]
