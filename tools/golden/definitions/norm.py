"""Norms and reductions, all of them ttnn's own definitions."""

from mochi_aot.tools.golden.local import theirs
from mochi_aot.tools.golden.types import Definition

EXACT = "compute_kernel_config"  # without which ttnn takes shortcuts that no definition shows

THEIRS: dict[str, Definition] = {
    "mean": theirs("mean", "dim keepdim", required=EXACT),
    # Without its epsilon ttnn takes another one, which seldom makes a difference that a test would see.
    "rms_norm": theirs("rms_norm", "weight", required=f"epsilon {EXACT}"),
    "softmax": theirs("softmax", required=f"dim {EXACT}"),
    "sum": theirs("sum", "dim keepdim", required=EXACT),
    "var": theirs("var", "dim keepdim correction", required=EXACT),
}
OURS: dict[str, Definition] = {}
