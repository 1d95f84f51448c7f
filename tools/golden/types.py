"""What the golden runner passes around."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import ttnn
from torch import Tensor

from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.tools.golden.formats import STORAGE, stored

# A tensor for each chip, row by row of the mesh. Replicas may be the same object.
Value = list[Tensor]


@dataclass(frozen=True, eq=False)
class Chips:
    """A tensor on chips: what the runtime holds in the place of a ttnn.Tensor.

    `dtype` and `layout` are what ttnn says of it. A piece has the torch dtype that formats.STORAGE says, or float32 for
    all floats where nothing is rounded.
    """

    pieces: Value
    dtype: ttnn.DataType
    layout: ttnn.Layout = ttnn.TILE_LAYOUT

    @property
    def shape(self) -> list[int]:
        """What one chip holds."""
        return list(self.pieces[0].shape)


@dataclass(eq=False)
class ChipMesh:
    """What the runtime is given in the place of a ttnn.MeshDevice: chips of the smallest Wormhole grid.

    `rounded`: tensors are rounded to their dtypes, as on chips; otherwise floats are float32 throughout. `defects`:
    definitions reproduce the known defects of ttnn.
    """

    grid: Mesh
    rounded: bool = True
    defects: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.rows, self.grid.columns

    @property
    def size(self) -> int:
        return self.grid.size

    def groups(self, axis: int) -> list[list[int]]:
        """Return the groups of chips that differ only in their coordinate on `axis`."""
        return self.grid.groups(axis)

    def id(self) -> int:
        """Return a number that no other mesh has while this one is there."""
        return id(self)

    def arch(self) -> ttnn.Arch:
        return ttnn.Arch.WORMHOLE_B0

    def compute_with_storage_grid_size(self) -> ttnn.CoreCoord:
        return ttnn.CoreCoord(8, 8)

    def held(self, tensor: Tensor, dtype: ttnn.DataType) -> Tensor:
        """`tensor` as a chip holds it in `dtype`."""
        name = dtype.name.lower()
        if not self.rounded and STORAGE[name].is_floating_point:
            return tensor.to(torch.float32)
        return stored(tensor, name)


# Stands in for a ttnn function: called with the mesh and then with what ttnn's function is called with.
Definition = Callable[..., Any]


class GoldenError(Exception):
    """A program that cannot be run as it is written, or a call of ttnn that has no definition here."""
