"""Reshapes: which dimensions turn into which, and that a cut that is carried along holds the same elements."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.numpy_values import piece
from mochi_aot.compiler.ir.types import Shard
from mochi_aot.compiler.partition.rules.shape import reshape_groups, reshaped_cut
from tests.compiler.partition.legal import Shape


@st.composite
def grouped(draw: st.DrawFn, factors: list[int]) -> Shape:
    """A shape whose sizes are products of runs of the factors, with ones strewn in."""
    shape, size = [], 1
    for factor in factors:
        size *= factor
        if draw(st.booleans()):
            shape.append(size)
            size = 1
    shape.append(size)
    for _ in range(draw(st.integers(0, 2))):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


factors = st.lists(st.sampled_from([2, 2, 3, 5]), max_size=5)
reshapes = factors.flatmap(lambda found: st.tuples(grouped(found), grouped(found)))


@given(reshapes)
def test_groups_pair_runs_of_equal_products_and_are_the_finest(shapes: tuple[Shape, Shape]) -> None:
    source, target = shapes
    groups = reshape_groups(source, target)
    assert [d for old, _ in groups for d in old] == [d for d, n in enumerate(source) if n != 1]
    assert [d for _, new in groups for d in new] == [d for d, n in enumerate(target) if n != 1]
    for old, new in groups:
        left = [math.prod(source[d] for d in old[:i]) for i in range(1, len(old) + 1)]
        right = [math.prod(target[d] for d in new[:i]) for i in range(1, len(new) + 1)]
        assert set(left) & set(right) == {left[-1]} == {right[-1]}


def test_groups_of_examples() -> None:
    assert reshape_groups((2, 18, 32), (2, 18, 8, 4)) == [([0], [0]), ([1], [1]), ([2], [2, 3])]
    assert reshape_groups((1, 3, 4, 6), (1, 72)) == [([1, 2, 3], [1])]
    assert reshape_groups((6, 4), (4, 6)) == [([0, 1], [0, 1])]
    assert reshape_groups((1, 1, 5), (5, 1)) == [([2], [0])]
    assert reshape_groups((), (1, 1)) == []


@st.composite
def cuts(draw: st.DrawFn, proper: bool = False) -> tuple[Shape, Shape, Shard, int]:
    """A proper cut leaves no device with all."""
    source, target = draw(reshapes)
    dim = draw(st.integers(0, len(source) - 1))
    if proper and source[dim] == 1:
        source, target, dim = (*source, 2), (2, *target), len(source)
    pieces = draw(st.integers(1 + proper, 4))
    chunk = draw(st.integers(-(-source[dim] // pieces), source[dim] - proper))
    return source, target, Shard(dim, chunk), pieces


@given(cuts())
def test_a_cut_that_is_carried_along_holds_the_same_elements(case: tuple[Shape, Shape, Shard, int]) -> None:
    source, target, cut, pieces = case
    moved = reshaped_cut(source, target, cut)
    if moved is None:
        return
    assert moved.chunk * pieces >= target[moved.dim]
    elements = np.arange(math.prod(source)).reshape(source)
    for c in range(pieces):
        local = piece(elements, cut.dim, cut.chunk, c, -1)
        expected = piece(elements.reshape(target), moved.dim, moved.chunk, c, -1)
        np.testing.assert_array_equal(local.reshape(expected.shape), expected)


@given(cuts(proper=True))
def test_a_cut_is_carried_along_if_any_cut_holds_the_same_elements(case: tuple[Shape, Shape, Shard, int]) -> None:
    source, target, cut, pieces = case
    elements = np.arange(math.prod(source))

    def held(shape: Shape, dim: int, chunk: int) -> list[list[int]]:
        return [
            elements.reshape(shape)[(slice(None),) * dim + (slice(c * chunk, (c + 1) * chunk),)].ravel().tolist()
            for c in range(pieces)
        ]

    wanted = held(source, cut.dim, cut.chunk)
    possible = {
        Shard(dim, chunk)
        for dim, size in enumerate(target)
        for chunk in range(1, size + 1)
        if held(target, dim, chunk) == wanted
    }
    moved = reshaped_cut(source, target, cut)
    assert possible <= {moved}


def test_cuts_of_examples() -> None:
    heads = ((2, 18, 32), (2, 18, 8, 4))
    assert reshaped_cut(*heads, Shard(2, 16)) == Shard(2, 4)
    assert reshaped_cut(*heads, Shard(2, 12)) == Shard(2, 3)
    assert reshaped_cut(*heads, Shard(2, 6)) is None  # through a head
    assert reshaped_cut(*heads, Shard(1, 5)) == Shard(1, 5)
    merge = ((1, 3, 4, 6), (1, 72))
    assert reshaped_cut(*merge, Shard(1, 2)) == Shard(1, 48)
    assert reshaped_cut(*merge, Shard(2, 2)) is None  # not contiguous
    assert reshaped_cut((1, 6), (6,), Shard(0, 1)) is None  # a dimension of one element has no counterpart
