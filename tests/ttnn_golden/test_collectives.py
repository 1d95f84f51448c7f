import pytest
import torch

from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.chips import MESH, golden, joined, normal, spread
from tests.ttnn_golden.types import GoldenError

WHOLE = normal(0, 4, 8, 8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dim", [0, 2, -1])
def test_all_gather_and_mesh_partition_undo_each_other(axis, dim):
    pieces = spread(WHOLE, MESH, **{("rows", "columns")[axis]: dim})
    (gathered,) = golden("all_gather", pieces, dim=dim, axis=axis)
    assert all(torch.equal(tensor, WHOLE) for tensor in gathered)
    (again,) = golden("mesh_partition", gathered, dim=dim, axis=axis)
    assert all(torch.equal(a, b) for a, b in zip(again, pieces, strict=True))


def test_a_gather_along_one_axis_keeps_the_other_apart():
    (gathered,) = golden("all_gather", spread(WHOLE, MESH, rows=0, columns=1), dim=1, axis=1)
    assert torch.equal(joined(gathered, MESH, rows=0), WHOLE)
    assert gathered[0] is gathered[3]  # what chips hold in common they share


@pytest.mark.parametrize("axis", [0, 1])
def test_sums(axis):
    parts = [normal(seed, 4, 8) for seed in range(MESH.size)]
    (total,) = golden("all_reduce", parts, axis=axis)
    (pieces,) = golden("reduce_scatter", parts, dim=1, axis=axis)
    for group in MESH.groups(axis):
        expected = sum(parts[chip] for chip in group)
        for place, chip in enumerate(group):
            torch.testing.assert_close(total[chip], expected)
            torch.testing.assert_close(pieces[chip], expected.chunk(len(group), dim=1)[place])


def test_sums_are_rounded_once():
    parts = [torch.full((1,), value).bfloat16() for value in (1.0, 2**-9, 2**-9, 2**-9)]
    (total,) = golden("all_reduce", parts, mesh=Mesh(1, 4), axis=1)
    assert total[0].dtype == torch.bfloat16 and total[0].item() == 1 + 2**-7


def test_pieces_must_be_equal():
    with pytest.raises(GoldenError, match="does not divide over 4 chips"):
        golden("mesh_partition", [torch.zeros(6)] * MESH.size, dim=0, axis=1)
