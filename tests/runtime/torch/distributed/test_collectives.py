"""The collectives of processes give, bit by bit, what the simulation gives, which test_collectives.py compares with
their definitions."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist

from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.distributed.axis import Axis
from mochi_aot.runtime.torch.distributed.collectives import collectives
from mochi_aot.runtime.torch.distributed.rendezvous import meet
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.types import Value
from mochi_aot.runtime.world import World
from tests.runtime.torch.distributed.ranks import Ranks
from tests.runtime.torch.programs import normal

CASES = 60  # of each op; sizes are drawn, so that most of them do not divide
DTYPES = (torch.float32, torch.bfloat16, torch.int32, torch.bool)


@contextmanager
def one_axis(world: World) -> Iterator[Axis]:
    """All processes of a run as one axis."""
    store = dist.PrefixStore("test", meet(world))
    dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)
    try:
        yield Axis(range(world.size), world.rank, dist.group.WORLD)
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


def compare(world: World, op: str, seed: int) -> int:
    """How many random cases were compared on this process."""
    rng, mesh = random.Random(f"{op}{seed}"), Mesh(1, world.size)
    with one_axis(world) as axis:
        for case in range(CASES):
            attrs, shape, dtype = draw(op, world.size, rng)
            value = different(world.size, case, shape, dtype)
            expected = COLLECTIVES[op](mesh, attrs)(value)[world.rank]
            own = value[world.rank].clone()
            (actual,) = collectives([axis, axis])[op](Mesh(1, world.size, world.rank), attrs)([own])
            assert torch.equal(actual, expected), (attrs, shape, dtype)
            assert torch.equal(own, value[world.rank]), "the operand was written"
    return CASES


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("op", ["all_gather", "all_reduce", "reduce_scatter", "all_to_all", "halo_exchange"])
def test_tensors_move_as_in_the_simulation(op: str, size: int, ranks: Ranks) -> None:
    assert ranks.run(size, compare, op, size) == [CASES] * size


def attend(world: World, dtype: torch.dtype) -> int:
    """Compare ring attention on prompts of every kind, and on sequences that leave processes without a token."""
    size, cases = world.size, 0
    with one_axis(world) as axis:
        for batch, chunk, length in ((2, 3, 3 * size), (1, 2, 2 * size - 1), (2, 4, 5), (1, 1, 1)):
            for kept in ((0, 7), (1, 0), (7, 4)):
                visual = [[normal(10 * i + j, batch, chunk, 2, 8, dtype=dtype) for i in range(size)] for j in range(3)]
                text = [[normal(99 + j, batch, 7, 2, 8, dtype=dtype)] * size for j in range(3)]
                mask = torch.stack([torch.arange(7) < count for count in kept[:batch]])
                mask = mask.flip(1) if length % 2 else mask  # the tokens that count need not be the first ones
                values = [*visual, *text, [mask] * size]
                attrs = {"axis": 1, "scale": 0.3, "size": length, "chunk": chunk}
                expected = COLLECTIVES["ring_joint_attention"](Mesh(1, size), attrs)(*values)
                own = [[value[world.rank]] for value in values]
                op = collectives([axis, axis])["ring_joint_attention"]
                made = op(Mesh(1, size, world.rank), attrs)(*own)
                for (actual,), whole in zip(made, expected, strict=True):
                    assert torch.equal(actual, whole[world.rank]), (batch, chunk, length, kept)
                cases += 1
    return cases


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_ring_attention_merges_as_in_the_simulation(size: int, dtype: torch.dtype, ranks: Ranks) -> None:
    assert ranks.run(size, attend, dtype) == [12] * size
