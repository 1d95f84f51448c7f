"""The few types that all modules of this backend share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mochi_aot.artifacts.dtypes import DTYPES as BUNDLE_DTYPES
from mochi_aot.runtime.torch.mesh import Mesh

# A tensor on the mesh: one torch tensor a device, row by row. Devices that hold the same data may share one tensor,
# so no tensor is ever written once it is in a Value.
Value = list[torch.Tensor]

# The tensors of one Value on the devices of a group along a mesh axis, in the order of their coordinates.
Group = Sequence[torch.Tensor]

Attrs = Mapping[str, Any]

# A local op, resolved: one device's tensors in, its tensor out, or a tuple of them where the op has several results.
Kernel = Callable[..., Any]
Builder = Callable[[Attrs], Kernel]

# An op that knows where on the mesh its device is, resolved: Values in, a Value or a tuple of Values out.
Collective = Callable[..., Any]
CollectiveBuilder = Callable[[Mesh, Attrs], Collective]

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype.torch) for name, dtype in BUNDLE_DTYPES.items()}
