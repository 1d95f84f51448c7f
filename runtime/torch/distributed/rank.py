"""One device of the mesh, which this process is: a TorchBackend whose collectives reach the other processes."""

import os
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.device_mesh import init_device_mesh

from mochi_aot.artifacts.dtypes import held_dtype
from mochi_aot.artifacts.schema import TensorSpec
from mochi_aot.runtime.backend import Executable, Value, Watch
from mochi_aot.runtime.torch.backend import TorchBackend, find_device, from_host, to_host
from mochi_aot.runtime.torch.distributed.axis import Axis, as_bytes, reaching
from mochi_aot.runtime.torch.distributed.collectives import collectives
from mochi_aot.runtime.torch.distributed.links import is_loopback
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, own_piece
from mochi_aot.runtime.torch.types import DTYPES
from mochi_aot.runtime.world import World

KINDS = ("NaN", "inf", "-inf")


class EndedError(Exception):
    """The leader has ended a program between two instructions."""


class RankBackend(TorchBackend):
    """All processes call the same methods in the same order. What the leader alone knows goes to all, and back."""

    def __init__(self, world: World, store: Store, mesh: Sequence[int], device: str) -> None:
        """Form the groups of the mesh's rows and columns. Raise BackendError, or LostError."""
        rows, columns = mesh
        self._hold(Mesh(rows, columns, world.rank), find_device(device, world.local_rank))
        self._leads = world.rank == 0
        self.collectives = collectives(form_axes(self.mesh, world, store, device))

    def close(self) -> None:
        """Forget all weights, and leave the groups."""
        super().close()
        if dist.is_initialized():
            dist.destroy_process_group()

    def share(self, array: np.ndarray | None, spec: TensorSpec) -> Value:
        """Give all processes their piece of the leader's array [*spec.shape]; the others have none."""
        whole = from_host(np.empty(spec.shape, held_dtype(spec.dtype)) if array is None else array)
        with reaching():
            dist.broadcast(as_bytes(whole), 0)
        return [own_piece(whole.to(self.device, DTYPES[spec.dtype]), spec, self.mesh)]

    def collect(self, value: Value, spec: TensorSpec) -> np.ndarray | None:
        """Undo share: return the whole array at the leader, None elsewhere."""
        sources = [_source(self.mesh, spec, device) for device in range(self.mesh.size)]
        own, pieces = value[0].cpu().contiguous(), dict[int, torch.Tensor]()
        if not self._leads:
            with reaching():
                if self.mesh.rank in sources:
                    dist.send(as_bytes(own), 0)
            return None
        for source in set(sources):
            pieces[source] = own if source == 0 else torch.empty_like(own)
        with reaching():
            works = [dist.irecv(as_bytes(x), source) for source, x in sorted(pieces.items()) if source != 0]
            for work in works:
                if work is not None:  # as it is for a process that is not of the group
                    work.wait()
        return to_host(assemble([pieces[source] for source in sources], spec, self.mesh))

    def kinds(self, values: Sequence[Value]) -> list[list[str]]:
        """Return what `nonfinite` finds of each value, on any process."""
        found = [self.nonfinite(value) for value in values]
        flags = torch.tensor([[kind in kinds for kind in KINDS] for kinds in found], dtype=torch.uint8)
        if found:
            with reaching():
                dist.all_reduce(flags, dist.ReduceOp.MAX)
        return [[kind for kind, flag in zip(KINDS, row, strict=True) if flag] for row in flags.tolist()]

    def run_watched(
        self, executable: Executable, inputs: Mapping[str, Value], watch: Watch | None = None
    ) -> dict[str, Value]:
        """Run a program, all processes together looking at what each instruction makes.

        The leader's `watch` gets for each result what was found, a list of KINDS. Where it raises, the others' run
        raises EndedError.
        """

        def look(index: int, results: list[Value]) -> None:
            kinds = self.kinds(results)
            stop = torch.ones(1, dtype=torch.uint8)
            try:
                if watch is not None:
                    watch(index, kinds)
                stop.zero_()
            finally:
                with reaching():
                    dist.broadcast(stop, 0)
            if stop:
                raise EndedError

        return executable.run(inputs, look)


def form_axes(mesh: Mesh, world: World, store: Store, device: str) -> list[Axis]:
    """Form the groups of processes of the mesh's columns and rows. Raise LostError if that fails."""
    if sys.platform == "linux" and is_loopback(os.environ["MASTER_ADDR"]):
        os.environ.setdefault(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # gloo would ask for this host's name, which may lead anywhere
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    with reaching():
        dist.init_process_group(
            backend,
            store=PrefixStore("groups", store),
            rank=world.rank,
            world_size=world.size,
            device_id=torch.device("cuda", world.local_rank) if device == "cuda" else None,
        )
        grid = init_device_mesh(device, (mesh.rows, mesh.columns), mesh_dim_names=("rows", "columns"))
        members = [next(group for group in mesh.groups(axis) if world.rank in group) for axis in (0, 1)]
        return [Axis(members[i], members[i].index(world.rank), grid.get_group(i)) for i in (0, 1)]


def _source(mesh: Mesh, spec: TensorSpec, device: int) -> int:
    """Return the first device that holds what `device` does."""
    places = (mesh.coordinate(device, axis) if spec.placements[axis] else 0 for axis in (0, 1))
    row, column = places
    return row * mesh.columns + column
