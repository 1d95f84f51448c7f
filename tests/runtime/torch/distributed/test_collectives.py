"""The collectives of processes give, bit by bit, what the simulation gives, which test_collectives.py compares with
their definitions."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
import torch.distributed as dist

from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.distributed.axis import Axis
from mochi_aot.runtime.torch.distributed.collectives import collectives
from mochi_aot.runtime.torch.distributed.rank import form_axes
from mochi_aot.runtime.torch.distributed.rendezvous import meet
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.types import Value
from mochi_aot.runtime.world import World
from tests.runtime.torch.distributed.ranks import Ranks
from tests.runtime.torch.programs import normal

CASES = 8  # of each op on each axis; sizes are drawn, so that most of them do not divide
OPS = ("all_gather", "all_reduce", "reduce_scatter", "all_to_all", "halo_exchange")
DTYPES = (torch.float32, torch.bfloat16, torch.int32, torch.bool, torch.float8_e4m3fn)


@contextmanager
def formed(world: World, rows: int) -> Iterator[tuple[Mesh, list[Axis]]]:
    """The processes of a run as a mesh."""
    mesh = Mesh(rows, world.size // rows, world.rank)
    try:
        yield mesh, form_axes(mesh, world, meet(world), "cpu")
    finally:
        dist.destroy_process_group()


def draw(op: str, size: int, rng: random.Random) -> tuple[dict[str, int], list[int], torch.dtype]:
    """Attributes of an op, the shape of each process's tensor, and a dtype."""
    dtype = rng.choice(DTYPES if op in ("all_gather", "all_to_all", "halo_exchange") else DTYPES[:2])
    length, dim = rng.randint(1, 11), rng.randint(0, 2)
    chunk = -(-length // size) + rng.randint(0, 2)
    shape = [rng.randint(1, 3) for _ in range(3)]
    if rng.random() < 0.1:  # past what is sent in one message
        shape[(dim + 1) % 3] = 20_000
    if op == "all_reduce":
        shape[dim] = length
        return {"axis": 1}, shape, dtype
    if op == "reduce_scatter":
        shape[dim] = length
        return {"axis": 1, "dim": dim, "chunk": chunk}, shape, dtype
    shape[dim] = chunk
    if op == "all_gather":
        return {"axis": 1, "dim": dim, "size": length}, shape, dtype
    if op == "halo_exchange":
        halo = {"before": rng.randint(0, 3), "after": rng.randint(0, 3)}
        return {"axis": 1, "dim": dim, "size": length, "chunk": chunk, **halo}, shape, dtype
    split = (dim + rng.randint(1, 2)) % 3
    part = -(-shape[split] // size) + rng.randint(0, 1)
    return {"axis": 1, "gather_dim": dim, "size": length, "split_dim": split, "chunk": part}, shape, dtype


def different(size: int, seed: int, shape: list[int], dtype: torch.dtype) -> Value:
    """Another tensor for each process; every second one is not contiguous."""
    value = [(normal(seed + i, *shape) * 3).to(dtype) for i in range(size)]
    return [x.transpose(0, 2).contiguous().transpose(0, 2) if i % 2 else x for i, x in enumerate(value)]


def compare(world: World, rows: int) -> int:
    """How many random cases, of all ops on both axes, were compared on this process."""
    cases = 0
    with formed(world, rows) as (mesh, axes):
        rng, whole = random.Random(rows), Mesh(mesh.rows, mesh.columns)
        for case, op, axis in product(range(CASES), OPS, (0, 1)):
            attrs, shape, dtype = draw(op, (mesh.rows, mesh.columns)[axis], rng)
            attrs |= {"axis": axis}
            value = different(world.size, case, shape, dtype)
            expected = COLLECTIVES[op](whole, attrs)(value)[world.rank]
            own = value[world.rank].clone()
            (actual,) = collectives(axes)[op](mesh, attrs)([own])
            assert torch.equal(actual, expected), (op, attrs, shape, dtype)
            assert torch.equal(own, value[world.rank]), "the operand was written"
            cases += 1
    return cases


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 1), (2, 4), (1, 8)])
def test_tensors_move_as_in_the_simulation(rows: int, columns: int, ranks: Ranks) -> None:
    size = rows * columns
    assert ranks.run(size, compare, rows) == [2 * CASES * len(OPS)] * size


def attend(world: World, rows: int) -> int:
    """Compare ring attention on prompts of every kind, and on sequences that leave processes without a token."""
    cases = 0
    with formed(world, rows) as (mesh, axes):
        count, whole = mesh.columns, Mesh(mesh.rows, mesh.columns)
        lengths = ((2, 3, 3 * count), (1, 2, 2 * count - 1), (2, 4, 5), (1, 1, 1))
        for (batch, chunk, length), kept, dtype in product(lengths, ((0, 7), (1, 0), (7, 4)), DTYPES[:2]):
            values = _qkv(world.size, batch, chunk, dtype) + _qkv(1, batch, 7, dtype)
            visual, text = values[:3], [value * world.size for value in values[3:]]
            mask = torch.stack([torch.arange(7) < number for number in kept[:batch]])
            mask = mask.flip(1) if length % 2 else mask  # the tokens that count need not be the first ones
            operands = [*visual, *text, [mask] * world.size]
            attrs = {"axis": 1, "scale": 0.3, "size": length, "chunk": chunk}
            expected = COLLECTIVES["ring_joint_attention"](whole, attrs)(*operands)
            op = collectives(axes)["ring_joint_attention"]
            made = op(mesh, attrs)(*([value[world.rank]] for value in operands))
            for (actual,), of_all in zip(made, expected, strict=True):
                assert torch.equal(actual, of_all[world.rank]), (batch, chunk, length, kept)
            cases += 1
    return cases


def _qkv(devices: int, batch: int, tokens: int, dtype: torch.dtype) -> list[Value]:
    return [[normal(10 * i + j, batch, tokens, 2, 8, dtype=dtype) for i in range(devices)] for j in range(3)]


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 4)])
def test_ring_attention_merges_as_in_the_simulation(rows: int, columns: int, ranks: Ranks) -> None:
    assert ranks.run(rows * columns, attend, rows) == [24] * (rows * columns)
