"""Streams weights into a bundle as shards: read, converted and hashed in several threads, written in one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import torch

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.writer import BundleWriter
from mochi_aot.compiler.ir.program import Constant, Param
from mochi_aot.compiler.lower.conveyor import Conveyor
from mochi_aot.compiler.lower.memory import Arena
from mochi_aot.compiler.lower.origin import Origin
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
GROUP_BYTES = 64 << 20  # of one weight's shards that one thread makes together


type Made = list[tuple[torch.Tensor, str]]  # shards, each at the start of a piece of memory, with their hashes


@dataclass(frozen=True)
class _Weight:
    """A weight on its way into the bundle: `shards` are those of its distinct pieces that were written."""

    param: Param
    origin: Origin
    distinct: list[Coordinates]
    devices: list[int]
    done: Callable[[], None]
    shards: list[int] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Of one piece."""
        return self.param.value.type.local_nbytes

    @property
    def constant(self) -> bool:
        return isinstance(self.param.recipe, Constant)


class WeightWriter:
    """Context manager that writes parameters into a bundle; given the same weight again, it does nothing."""

    def __init__(self, writer: BundleWriter, source: KnownSource, mesh: Mesh) -> None:
        self._writer, self._source, self._mesh = writer, source, mesh
        self._conveyor = Conveyor(WINDOW_BYTES, start=single_thread)
        self._arena = Arena()
        self._asked: set[str] = set()

    def __enter__(self) -> Self:
        self._conveyor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._conveyor.__exit__(*error)  # type: ignore[arg-type]

    def add(self, param: Param, done: Callable[[], None] = lambda: None) -> None:
        """Writes the parameter's distinct shards, a few at a time, and then calls `done`."""
        name, type = weight_name(param), param.value.type
        if name in self._asked:
            return
        self._asked.add(name)
        source = partial(weight_source, name, param.recipe, self._mesh, self._source)
        origin = Origin(self._writer.earlier, name, source)
        weight = _Weight(param, origin, *distinct_coordinates(param.recipe, type, self._mesh), done)
        count = max(GROUP_BYTES // max(weight.nbytes, 1), 1)
        for start in range(0, len(weight.distinct), count):
            group = weight.distinct[start : start + count]
            take = partial(self._take, weight, start == 0)
            self._conveyor.put(len(group) * weight.nbytes, partial(self._make, weight, group), take)

    def _make(self, weight: _Weight, group: list[Coordinates]) -> Made | None:
        """The shards of some devices; nothing where the weight was made before."""
        if weight.origin.made_before() is not None:
            return None
        type = weight.param.value.type
        memory = [self._arena.acquire(weight.nbytes) for _ in group]
        shards = [piece[: weight.nbytes] for piece in memory]
        outs = [shard.view(TORCH_DTYPES[type.dtype]).view(type.local_shape) for shard in shards]
        fill(weight.param.recipe, type, group, outs, self._source)
        weight.origin.source()  # in this thread, of which there are several, and while the file cache has all of it
        return [(piece, hash_bytes(shard.numpy())) for piece, shard in zip(memory, shards, strict=True)]

    def _take(self, weight: _Weight, first: bool, made: Made | None) -> None:
        earlier = weight.origin.made_before()
        if earlier is not None:
            if first:
                self._writer.add_earlier(earlier, weight.constant)
                weight.done()
            return
        assert made is not None
        for memory, sha256 in made:
            weight.shards.append(self._writer.add_shard(memory[: weight.nbytes].numpy(), sha256, weight.constant))
            self._arena.release(memory)
        if len(weight.shards) == len(weight.distinct):
            self._writer.add_weight(_described(weight))
            weight.done()


def _described(weight: _Weight) -> schema.Weight:
    type, shards = weight.param.value.type, [weight.shards[index] for index in weight.devices]
    name, source = weight_name(weight.param), weight.origin.source()
    return schema.Weight(name, type.dtype, list(type.local_shape), shards, None, source)


def single_thread() -> None:
    """Have this thread's tensor operations use no others: there are as many such threads as processors."""
    torch.set_num_threads(1)
