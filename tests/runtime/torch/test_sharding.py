"""Pieces of a dimension: each against its definition, element by element."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.runtime.torch.sharding import join, piece, valid_extent


@given(size=st.integers(1, 20), chunk=st.integers(1, 9), coordinate=st.integers(0, 8))
def test_a_piece_holds_its_positions_and_zeros(size: int, chunk: int, coordinate: int) -> None:
    x = torch.arange(1, size + 1)
    positions = range(coordinate * chunk, (coordinate + 1) * chunk)
    expected = [position + 1 if position < size else 0 for position in positions]
    assert piece(x, 0, coordinate, chunk).tolist() == expected
    assert valid_extent(coordinate, chunk, size) == sum(position < size for position in positions)


@given(size=st.integers(1, 20), chunk=st.integers(1, 9), dim=st.integers(0, 2), spare=st.integers(0, 2))
def test_joining_the_pieces_gives_the_whole(size: int, chunk: int, dim: int, spare: int) -> None:
    x = torch.arange(size * 6).reshape(size, 2, 3).movedim(0, dim)
    pieces = [piece(x, dim, coordinate, chunk) for coordinate in range(-(-size // chunk) + spare)]
    assert all(part.is_contiguous() for part in pieces)
    assert torch.equal(join(pieces, dim, size), x)
