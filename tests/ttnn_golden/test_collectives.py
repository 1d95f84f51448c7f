import pytest
import torch

from mochi_aot.tools.golden.types import GoldenError
from tests.ttnn_golden.chips import MESH, executed, joined, normal, spread

WHOLE = normal(0, 4, 8, 8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dim", [0, 2, -1])
def test_all_gather_and_mesh_partition_undo_each_other(axis, dim):
    pieces = spread(WHOLE, MESH, **{("rows", "columns")[axis]: dim})
    (gathered,) = executed("all_gather", pieces, dim=dim, axis=axis)
    assert all(torch.equal(tensor, WHOLE) for tensor in gathered.pieces)
    (again,) = executed("mesh_partition", gathered, dim=dim, axis=axis)
    assert all(torch.equal(a, b) for a, b in zip(again.pieces, pieces, strict=True))


def test_a_gather_along_one_axis_keeps_the_other_apart():
    (gathered,) = executed("all_gather", spread(WHOLE, MESH, rows=0, columns=1), dim=1, axis=1)
    assert torch.equal(joined(gathered.pieces, MESH, rows=0), WHOLE)
    assert gathered.pieces[0] is gathered.pieces[3]  # what chips hold in common they share


@pytest.mark.parametrize("axis", [0, 1])
def test_sums(axis):
    parts = [normal(seed, 4, 8) for seed in range(MESH.size)]
    (total,) = executed("all_reduce", parts, axis=axis)
    (pieces,) = executed("reduce_scatter", parts, dim=1, axis=axis)
    for group in MESH.groups(axis):
        expected = sum(parts[chip] for chip in group)
        for place, chip in enumerate(group):
            torch.testing.assert_close(total.pieces[chip], expected)
            torch.testing.assert_close(pieces.pieces[chip], expected.chunk(len(group), dim=1)[place])


def test_pieces_must_be_equal():
    with pytest.raises(GoldenError, match="does not divide over 4 chips"):
        executed("mesh_partition", [torch.zeros(6)] * MESH.size, dim=0, axis=1)
