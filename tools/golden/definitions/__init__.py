"""What each ttnn function computes, by its path below `ttnn`: by ttnn's own torch definition, or by one of ours."""

from mochi_aot.tools.golden.definitions import (
    attention,
    collectives,
    device,
    elementwise,
    matmul,
    norm,
    ring,
    shape,
    video,
)
from mochi_aot.tools.golden.types import Definition

_MODULES = (attention, collectives, device, elementwise, matmul, norm, ring, shape, video)

THEIRS: dict[str, Definition] = {name: each for module in _MODULES for name, each in module.THEIRS.items()}
OURS: dict[str, Definition] = {name: each for module in _MODULES for name, each in module.OURS.items()}
