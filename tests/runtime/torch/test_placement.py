"""Cutting a tensor for a mesh and putting it together again."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.schema import Placement
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from tests.runtime.torch.programs import spec

MESHES = st.sampled_from([Mesh(1, 1), Mesh(1, 2), Mesh(2, 2), Mesh(2, 4)])


@st.composite
def placed(draw: st.DrawFn) -> tuple[Mesh, list[int], Placement | None, Placement | None]:
    """A mesh, a shape, and placements whose chunks are at least as large as they must be."""
    mesh = draw(MESHES)
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    extents = list(shape)
    placements: list[Placement | None] = []
    for count in (mesh.rows, mesh.columns):
        dim = draw(st.none() | st.integers(0, len(shape) - 1))
        if dim is None:
            placements.append(None)
            continue
        chunk = -(-extents[dim] // count) + draw(st.integers(0, 2))
        extents[dim] = chunk
        placements.append(Placement(dim, chunk))
    return mesh, shape, placements[0], placements[1]


@given(placed())
def test_assemble_is_the_inverse_of_split(case: tuple[Mesh, list[int], Placement | None, Placement | None]) -> None:
    mesh, shape, rows, columns = case
    layout = spec(shape, rows=rows, columns=columns)
    x = torch.randn(shape)
    value = split(x, layout, mesh)
    assert [list(tensor.shape) for tensor in value] == [layout.local_shape] * mesh.size
    assert torch.equal(assemble(value, layout, mesh), x)


def test_a_dimension_cut_by_both_axes_is_cut_by_rows_first() -> None:
    value = split(torch.arange(7), spec([7], rows=Placement(0, 4), columns=Placement(0, 2)), Mesh(2, 2))
    assert [tensor.tolist() for tensor in value] == [[0, 1], [2, 3], [4, 5], [6, 0]]


def test_padding_inside_a_row_is_dropped() -> None:
    """Rows hold 3 positions each, cut in chunks of 2: the second column has one real position."""
    layout = spec([6], rows=Placement(0, 3), columns=Placement(0, 2))
    value = split(torch.arange(1, 7), layout, Mesh(2, 2))
    assert [tensor.tolist() for tensor in value] == [[1, 2], [3, 0], [4, 5], [6, 0]]
    assert assemble(value, layout, Mesh(2, 2)).tolist() == [1, 2, 3, 4, 5, 6]


def test_replicas_share_one_tensor() -> None:
    value = split(torch.arange(4), spec([4], columns=Placement(0, 2)), Mesh(2, 2))
    assert value[0] is value[2]
    assert value[1] is value[3]
    assert value[0] is not value[1]


def test_the_contents_of_padding_do_not_matter() -> None:
    layout = spec([3], columns=Placement(0, 2))
    value = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, float("nan")])]
    assert assemble(value, layout, Mesh(1, 2)).tolist() == [1.0, 2.0, 3.0]
