"""Streams weights into a bundle as shards: read, converted and hashed in several threads, written in one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Self

import torch

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.writer import BundleWriter
from mochi_aot.compiler.ir.program import Constant, Param
from mochi_aot.compiler.lower.conveyor import Conveyor
from mochi_aot.compiler.lower.memory import Arena
from mochi_aot.compiler.lower.weights import (
    DTYPES,
    Coordinates,
    KnownSource,
    distinct_coordinates,
    fill,
    weight_name,
    weight_source,
)
from mochi_aot.compiler.partition.mesh import Mesh

WINDOW_BYTES = 768 << 20  # of shards that were made and not yet written
GROUP_BYTES = 64 << 20  # of one weight's shards that one thread makes together


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
        source, stamp = weight_source(name, param.recipe, self._mesh, self._source)
        constant = isinstance(param.recipe, Constant)
        earlier = self._writer.earlier.find(source, stamp)

        def take_earlier(_: None) -> None:
            assert earlier is not None
            self._writer.add_earlier(earlier, constant, stamp)
            done()

        if earlier is None:
            weight = schema.Weight(name, type.dtype, list(type.local_shape), [], None, source)
            self._put(param, weight, stamp, constant, done)
        else:
            self._conveyor.put(0, nothing, take_earlier)

    def _put(self, param: Param, weight: schema.Weight, stamp: str, constant: bool, done: Callable[[], None]) -> None:
        nbytes = param.value.type.local_nbytes
        distinct, devices = distinct_coordinates(param.recipe, param.value.type, self._mesh)
        shards: list[int] = []

        def take(made: list[tuple[torch.Tensor, str]]) -> None:
            for memory, sha256 in made:
                shards.append(self._writer.add_shard(memory[:nbytes].numpy(), sha256, constant))
                self._arena.release(memory)
            if len(shards) == len(distinct):
                by_device = [shards[index] for index in devices]
                self._writer.add_weight(replace(weight, shards=by_device), stamp)
                done()

        count = max(GROUP_BYTES // max(nbytes, 1), 1)
        for start in range(0, len(distinct), count):
            group = distinct[start : start + count]
            self._conveyor.put(len(group) * nbytes, partial(self._make, param, group), take)

    def _make(self, param: Param, group: list[Coordinates]) -> list[tuple[torch.Tensor, str]]:
        """The shards of some devices, each at the start of a piece of memory, with their hashes."""
        type = param.value.type
        memory = [self._arena.acquire(type.local_nbytes) for _ in group]
        shards = [piece[: type.local_nbytes] for piece in memory]
        outs = [shard.view(DTYPES[type.dtype]).view(type.local_shape) for shard in shards]
        fill(param.recipe, type, group, outs, self._source)
        return [(piece, hash_bytes(shard.numpy())) for piece, shard in zip(memory, shards, strict=True)]


def nothing() -> None:
    """For what need not be made."""


def single_thread() -> None:
    """Have this thread's tensor operations use no others: there are as many such threads as processors."""
    torch.set_num_threads(1)
