"""Weights as shards in large files: each device's piece of a weight is made from the checkpoint, hashed and written."""

from functools import partial

import torch

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.layout import OWN_FILE_BYTES, FileGroup
from mochi_aot.compiler.ir.program import Constant, Param
from mochi_aot.compiler.lower.memory import Arena
from mochi_aot.compiler.lower.weight_belt import GROUP_BYTES, Part
from mochi_aot.compiler.lower.weights import (
    Coordinates,
    KnownSource,
    distinct_coordinates,
    fill,
    weight_name,
    weight_source,
)
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES

WINDOW_BYTES = 768 << 20  # of shards that were made and not yet written

type Shards = list[tuple[torch.Tensor, str]]  # each at the start of a piece of memory, with its hash


class ShardedWeight:
    """A weight whose distinct pieces become shards, a few at a time: see weight_belt.Making."""

    def __init__(self, writer: BundleWriter, param: Param, source: KnownSource, mesh: Mesh, arena: Arena) -> None:
        """Weights share `arena`, whose memory is used again once a shard was written."""
        self._writer, self._param, self._source, self._mesh, self._arena = writer, param, source, mesh, arena
        self._type = param.value.type
        self._distinct, self._devices = distinct_coordinates(param.recipe, self._type, mesh)
        self._written: list[int] = []  # indices of the shards of the distinct pieces so far
        self.name = weight_name(param)
        self.group = _group(param, len(self._distinct))

    def source(self) -> str:
        """See Making."""
        return weight_source(self.name, self._param.recipe, self._mesh, self._source)

    def parts(self) -> list[Part[Shards]]:
        """See Making."""
        nbytes = self._type.local_nbytes
        count = max(GROUP_BYTES // max(nbytes, 1), 1)
        groups = [self._distinct[start : start + count] for start in range(0, len(self._distinct), count)]
        return [Part(len(group) * nbytes, partial(self._make, group)) for group in groups]

    def _make(self, group: list[Coordinates]) -> Shards:
        """Return the shards of the devices at these coordinates."""
        nbytes = self._type.local_nbytes
        memory = [self._arena.acquire(nbytes) for _ in group]
        shards = [piece[:nbytes] for piece in memory]
        outs = [shard.view(TORCH_DTYPES[self._type.dtype]).view(self._type.local_shape) for shard in shards]
        fill(self._param.recipe, self._type, group, outs, self._source)
        return [(piece, hash_bytes(shard.numpy())) for piece, shard in zip(memory, shards, strict=True)]

    def write(self, made: Shards) -> None:
        """See Making."""
        for memory, digest in made:
            data = memory[: self._type.local_nbytes].numpy()
            self._written.append(self._writer.add_shard(data, digest, self.group))
            self._arena.release(memory)

    def finished(self, source: str) -> schema.Weight:
        """See Making."""
        shards = [self._written[index] for index in self._devices]
        return schema.Weight(self.name, self._type.dtype, list(self._type.local_shape), shards, None, source)


def _group(param: Param, pieces: int) -> FileGroup:
    """Return which files a weight of so many distinct pieces goes to."""
    if isinstance(param.recipe, Constant):
        return FileGroup.CONSTANT
    return FileGroup.OWN if pieces * param.value.type.local_nbytes >= OWN_FILE_BYTES else FileGroup.SMALL
