"""Functions that make what instructions share on the chips. There is nothing to define but what is there."""

import torch
import ttnn

from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition


def _allocated(mesh: ChipMesh, spec: ttnn.TensorSpec, device: ChipMesh) -> Chips:
    """Without contents: ops only write there."""
    return Chips([torch.zeros(1).expand(list(spec.shape))] * mesh.size, spec.dtype, spec.layout)


class Semaphore:
    """On all chips. What it counts has no meaning here."""


THEIRS: dict[str, Definition] = {}
OURS: dict[str, Definition] = {"allocate_tensor_on_device": _allocated}
