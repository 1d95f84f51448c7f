"""Weights as ttnn's tensor files: one file a weight, with the pieces of all chips as ttnn lays them out.

Importing ttnn waits until a weight is made: by then this process was pointed at a mesh, perhaps a mocked one.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mochi_aot.artifacts import BundleError, BundleWriter, schema
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.integrity import hash_file
from mochi_aot.artifacts.layout import FileGroup
from mochi_aot.compiler.lower.ttnn.lowerer import Weight
from mochi_aot.compiler.lower.weight_belt import GROUP_BYTES, Part
from mochi_aot.compiler.lower.weights import (
    KnownSource,
    Source,
    distinct_coordinates,
    fill,
    weight_source,
)
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES

WINDOW_BYTES = 1 << 30  # of pieces that were made and not yet written


@dataclass(frozen=True)
class TensorFile:
    """A tensor file that was written; `shape` is that of one chip's piece."""

    place: Path
    shape: list[int]
    blake3: str


class TiledWeight:
    """A weight that becomes one tensor file: see weight_belt.Making."""

    def __init__(self, writer: BundleWriter, weight: Weight, source: KnownSource, mesh: Mesh) -> None:
        self._writer, self._weight, self._source, self._mesh = writer, weight, source, mesh
        self._file: tuple[int, list[int]] | None = None
        self.name = weight.name
        self.group = FileGroup.OWN  # as all tensor files are

    def source(self) -> str:
        """See Making."""
        return weight_source(self.name, self._weight.param.recipe, self._mesh, self._source, "ttnn")

    def parts(self) -> list[Part[TensorFile]]:
        """See Making."""
        return [Part(held_bytes(self._weight, self._mesh), self._make)]

    def _make(self) -> TensorFile:
        return tensor_file(self._weight, self._source, self._mesh, self._writer.tensor_place())

    def write(self, made: TensorFile) -> None:
        """See Making."""
        self._file = (self._writer.add_tensor(made.place, made.blake3), made.shape)

    def finished(self, source: str) -> schema.Weight:
        """See Making."""
        assert self._file is not None
        file, shape = self._file
        return schema.Weight(self.name, self._weight.dtype, shape, [], file, source)


def tensor_file(weight: Weight, source: Source, mesh: Mesh, place: Path) -> TensorFile:
    """Write what all chips hold of a weight to `place`. Raise BundleError if that fails, as on a full disk."""
    import ttnn

    type = weight.param.value.type
    distinct, devices = distinct_coordinates(weight.param.recipe, type, mesh)
    dtype, layout = getattr(ttnn, weight.dtype), getattr(ttnn, f"{weight.layout.upper()}_LAYOUT")
    made: list[Any] = []
    shape: list[int] = []
    count = max(GROUP_BYTES // max(type.local_nbytes, 1), 1)
    for start in range(0, len(distinct), count):
        group = distinct[start : start + count]
        locals = [torch.empty(type.local_shape, dtype=TORCH_DTYPES[type.dtype]) for _ in group]
        fill(weight.param.recipe, type, group, locals, source)
        for index in range(len(group)):
            piece = weight.preparation(locals[index])
            locals[index] = torch.empty(0)
            made.append(ttnn.from_torch(piece, dtype=dtype, layout=layout))
            shape = list(piece.shape)
    tensor = ttnn.from_host_shards([made[index] for index in devices], ttnn.MeshShape(*mesh))
    try:
        ttnn.dump_tensor(place, tensor)
    except RuntimeError as error:
        raise BundleError(f"cannot write {place}: {_reason(str(error))}") from error
    with os_errors(f"read {place}"):
        return TensorFile(place, shape, hash_file(place))


def _reason(message: str) -> str:
    """Return what a failed assertion of ttnn says: the system's own words if it has them, or else its `info:`."""
    system = re.search(r'errno=\d+ "([^"]+)"', message)
    return system[1] if system else message.partition("info:\n")[2].partition("\n")[0] or message.partition("\n")[0]


def held_bytes(weight: Weight, mesh: Mesh) -> int:
    """Return the memory for the pieces of a weight while its file is written: the distinct ones, and one that is being
    prepared."""
    distinct, _ = distinct_coordinates(weight.param.recipe, weight.param.value.type, mesh)
    return weight.param.value.type.local_nbytes * (len(distinct) + 2)
