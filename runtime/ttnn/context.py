"""What the builders of instructions ask for: the mesh, ttnn's values by name, and what instructions share."""

from collections.abc import Hashable, Sequence
from typing import Any

import ttnn

from mochi_aot.artifacts.dtypes import TTNN_DTYPES
from mochi_aot.runtime.ttnn.semaphores import semaphores

DTYPES: dict[str, ttnn.DataType] = {name: getattr(ttnn, name) for name in TTNN_DTYPES}
LAYOUTS = {"row_major": ttnn.ROW_MAJOR_LAYOUT, "tile": ttnn.TILE_LAYOUT}

# Fidelity, and whether matrix products accumulate in float32; the last one is for attention, whose kernels are short of
# registers otherwise.
_COMPUTE = {
    "hifi2": (ttnn.MathFidelity.HiFi2, True),
    "hifi4": (ttnn.MathFidelity.HiFi4, True),
    "hifi2_bf16acc": (ttnn.MathFidelity.HiFi2, False),
}
# A chip may begin the next call while its neighbour is still at this one, so calls take turns with what they share.
_TURNS = 2


class Context:
    """Belongs to one loaded program, and holds what its instructions share for as long as that lives."""

    def __init__(self, mesh: ttnn.MeshDevice) -> None:
        self.mesh = mesh
        size = mesh.compute_with_storage_grid_size()
        self.grid: tuple[int, int] = (size.x, size.y)
        self._compute = {name: _compute_config(mesh, *settings) for name, settings in _COMPUTE.items()}
        self._buffers: dict[Hashable, ttnn.Tensor] = {}
        self._turns: dict[Hashable, int] = {}

    def compute(self, name: str) -> ttnn.WormholeComputeKernelConfig:
        """Return the compute kernel config of this name. Raise KeyError if there is none."""
        return self._compute[name]

    def turn(self, use: Hashable) -> int:
        """Return the turn, 0 or 1, of the next call of one use: each call asks once, in the order of the program."""
        turn = self._turns[use] = (self._turns.get(use, -1) + 1) % _TURNS
        return turn

    def semaphores(self, use: Hashable, count: int) -> list[Any]:
        """Return the mesh's `count` global semaphores for `use`, which outlive the program."""
        return semaphores(self.mesh, use, count)

    def buffer(self, use: Hashable, shape: Sequence[int], dtype: str) -> ttnn.Tensor:
        """Return the program's tiled tensor in DRAM for `use`, shape and dtype, its contents undefined."""
        key = (use, tuple(shape), dtype)
        if key not in self._buffers:
            spec = ttnn.TensorSpec(list(shape), DTYPES[dtype], ttnn.TILE_LAYOUT, buffer_type=ttnn.BufferType.DRAM)
            self._buffers[key] = ttnn.allocate_tensor_on_device(spec, self.mesh)
        return self._buffers[key]


def _compute_config(
    mesh: ttnn.MeshDevice, fidelity: ttnn.MathFidelity, float32: bool
) -> ttnn.WormholeComputeKernelConfig:
    return ttnn.init_device_compute_kernel_config(
        mesh.arch(),
        math_fidelity=fidelity,
        math_approx_mode=False,
        fp32_dest_acc_en=float32,
        packer_l1_acc=float32,
    )
