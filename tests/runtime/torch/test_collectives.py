"""Collectives against their definitions on whole tensors, on meshes and sizes that do not divide."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mochi_aot.artifacts.schema import Placement
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import split
from mochi_aot.runtime.torch.positional import POSITIONAL
from mochi_aot.runtime.torch.types import Value
from tests.runtime.torch.programs import normal, spec

MESHES = st.sampled_from([Mesh(1, 1), Mesh(1, 2), Mesh(2, 2), Mesh(2, 4), Mesh(3, 1)])
AXES = st.integers(0, 1)
SIZES = st.integers(1, 11)
SPARE = st.integers(0, 2)


def collective(op: str, mesh: Mesh, value: Value, **attrs: int) -> Value:
    """The result of a collective; it must leave its operand as it was."""
    kept = [x.clone() for x in value]
    result: Value = {**COLLECTIVES, **POSITIONAL}[op](mesh, attrs)(value)
    assert all(torch.equal(x, y) for x, y in zip(value, kept, strict=True))
    return result


def count(mesh: Mesh, axis: int) -> int:
    return (mesh.rows, mesh.columns)[axis]


def chunk_of(mesh: Mesh, axis: int, size: int, spare: int) -> int:
    """Large enough for all devices to hold `size` positions, or larger by `spare`."""
    return -(-size // count(mesh, axis)) + spare


def cut(x: Tensor, mesh: Mesh, axis: int, dim: int, chunk: int) -> Value:
    """x sharded on `dim` over `axis` and replicated over the other."""
    placements: list[Placement | None] = [None, None]
    placements[axis] = Placement(dim, chunk)
    return split(x, spec(list(x.shape), rows=placements[0], columns=placements[1]), mesh)


def different(mesh: Mesh, *shape: int) -> Value:
    return [normal(device, *shape) for device in range(mesh.size)]


def equal(actual: Value, expected: Value) -> None:
    for device, (x, y) in enumerate(zip(actual, expected, strict=True)):
        assert torch.equal(x, y), f"device {device}"


@given(MESHES, AXES, SIZES, SPARE, st.integers(0, 2))
def test_shard(mesh: Mesh, axis: int, size: int, spare: int, dim: int) -> None:
    x, chunk = normal(0, size, 2, 3).movedim(0, dim), chunk_of(mesh, axis, size, spare)
    result = collective("shard", mesh, [x] * mesh.size, dim=dim, axis=axis, chunk=chunk)
    equal(result, cut(x, mesh, axis, dim, chunk))


@given(MESHES, AXES, SIZES, SPARE, st.integers(0, 2))
def test_all_gather(mesh: Mesh, axis: int, size: int, spare: int, dim: int) -> None:
    x, chunk = normal(0, size, 2, 3).movedim(0, dim), chunk_of(mesh, axis, size, spare)
    result = collective("all_gather", mesh, cut(x, mesh, axis, dim, chunk), dim=dim, axis=axis, size=size)
    equal(result, [x] * mesh.size)


def test_all_gather_joins_only_its_own_group() -> None:
    mesh = Mesh(2, 2)
    value = [torch.tensor([float(device)]) for device in range(4)]
    by_column = collective("all_gather", mesh, value, dim=0, axis=0, size=2)
    assert [x.tolist() for x in by_column] == [[0, 2], [1, 3], [0, 2], [1, 3]]
    by_row = collective("all_gather", mesh, value, dim=0, axis=1, size=2)
    assert [x.tolist() for x in by_row] == [[0, 1], [0, 1], [2, 3], [2, 3]]


@given(MESHES, AXES)
def test_all_reduce(mesh: Mesh, axis: int) -> None:
    """Up to four terms of order 1 in any order: a few 2^-24."""
    value = different(mesh, 3, 4)
    result = collective("all_reduce", mesh, value, axis=axis)
    for group in mesh.groups(axis):
        expected = sum(value[device].double() for device in group)
        for device in group:
            torch.testing.assert_close(result[device].double(), expected, rtol=0, atol=2e-6)
            assert result[device] is result[group[0]]


def test_bfloat16_is_added_in_float32() -> None:
    """1 + 2^-8 rounds to 1 in bfloat16, but 1 + 2 * 2^-8 does not."""
    value = [torch.tensor([x], dtype=torch.bfloat16) for x in (1.0, 2.0**-8, 2.0**-8)]
    result = collective("all_reduce", Mesh(1, 3), value, axis=1)
    assert result[0].dtype is torch.bfloat16
    assert result[0].item() == 1 + 2.0**-7


@given(MESHES, AXES, SIZES, SPARE)
def test_reduce_scatter(mesh: Mesh, axis: int, size: int, spare: int) -> None:
    value, chunk = different(mesh, 2, size), chunk_of(mesh, axis, size, spare)
    result = collective("reduce_scatter", mesh, value, dim=1, axis=axis, chunk=chunk)
    total = collective("all_reduce", mesh, value, axis=axis)
    equal(result, collective("shard", mesh, total, dim=1, axis=axis, chunk=chunk))


@given(MESHES, AXES, SIZES, SPARE, SIZES, SPARE)
def test_all_to_all(mesh: Mesh, axis: int, size: int, spare: int, other: int, other_spare: int) -> None:
    x = normal(0, size, other)
    chunk, other_chunk = chunk_of(mesh, axis, size, spare), chunk_of(mesh, axis, other, other_spare)
    attrs = {"axis": axis, "gather_dim": 0, "size": size, "split_dim": 1, "chunk": other_chunk}
    result = collective("all_to_all", mesh, cut(x, mesh, axis, 0, chunk), **attrs)
    equal(result, cut(x, mesh, axis, 1, other_chunk))


@given(MESHES, AXES, SIZES, SPARE, st.integers(0, 3), st.integers(0, 3))
def test_halo_exchange(mesh: Mesh, axis: int, size: int, spare: int, before: int, after: int) -> None:
    """Halos may be wider than a piece, and pieces may be all padding."""
    x, chunk = torch.arange(float(2 * size)).reshape(2, size), chunk_of(mesh, axis, size, spare)
    attrs = {"dim": 1, "axis": axis, "before": before, "after": after, "size": size, "chunk": chunk}
    result = collective("halo_exchange", mesh, cut(x, mesh, axis, 1, chunk), **attrs)
    for device, tensor in enumerate(result):
        start = mesh.coordinate(device, axis) * chunk - before
        positions = [min(max(start + i, 0), size - 1) for i in range(before + chunk + after)]
        assert torch.equal(tensor, x[:, positions])


@pytest.mark.parametrize("op", ["all_gather", "halo_exchange", "all_to_all"])
def test_padding_never_reaches_a_result(op: str) -> None:
    mesh, attrs = Mesh(1, 2), {"axis": 1, "size": 3, "dim": 0, "gather_dim": 0}
    attrs |= {"before": 1, "after": 1, "chunk": 2} if op == "halo_exchange" else {"split_dim": 1, "chunk": 1}
    value = cut(normal(0, 3, 2), mesh, 1, 0, 2)
    value[1][1] = float("nan")
    attrs = {k: v for k, v in attrs.items() if op != "all_to_all" or k != "dim"}
    assert all(x.isfinite().all() for x in COLLECTIVES[op](mesh, attrs)(value))


def test_replicas_stay_shared() -> None:
    """Over the other axis the groups hold the same tensors, so their results are the same tensors too."""
    value = cut(normal(0, 5, 2), Mesh(2, 2), 1, 0, 3)
    for op, attrs in (("all_gather", {"size": 5}), ("halo_exchange", {"before": 1, "after": 0, "size": 5, "chunk": 3})):
        result = collective(op, Mesh(2, 2), value, dim=0, axis=1, **attrs)
        assert result[0] is result[2]
        assert result[1] is result[3]
