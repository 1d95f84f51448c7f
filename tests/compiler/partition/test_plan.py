"""Where a plan puts parameters and annotated values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Cut, Plan, param_placements, value_placements
from tests.compiler.partition.legal import Shape, meshes, shapes

ROWS_0, ROWS_1, COLUMNS_1 = Cut(0, 0), Cut(1, 0), Cut(1, 1)


@pytest.mark.parametrize(
    ("cuts", "placements"),
    [
        ((), (REPLICATE, REPLICATE)),
        ((ROWS_0,), (Shard(0, 4), REPLICATE)),
        ((ROWS_0, COLUMNS_1), (Shard(0, 4), Shard(1, 3))),
        ((ROWS_0, ROWS_1), (Shard(0, 4), Shard(0, 2))),
    ],
    ids=["none", "rows", "rows and columns", "rows by both axes"],
)
def test_parameters_are_cut_evenly(cuts: tuple[Cut, ...], placements: tuple[Placement, ...]) -> None:
    plan = Plan("p", tuple(("dit.blocks.*.q.weight", cut) for cut in cuts))
    assert param_placements(plan, "dit.blocks.7.q.weight", (8, 6), (2, 2)) == placements
    assert param_placements(plan, "dit.blocks.7.q.bias", (8,), (2, 2)) == (REPLICATE, REPLICATE)


def test_an_axis_of_one_device_cuts_nothing() -> None:
    plan = Plan("p", (("w", ROWS_0), ("w", COLUMNS_1)))
    assert param_placements(plan, "w", (3, 6), (1, 2)) == (REPLICATE, Shard(1, 3))
    assert value_placements((ROWS_0, COLUMNS_1), (3, 6), (1, 2)) == (REPLICATE, Shard(1, 3))


def test_parameters_that_do_not_divide_are_refused() -> None:
    plan = Plan("tp01", (("w", ROWS_0), ("w", ROWS_1)))
    with pytest.raises(PlanError) as error:
        param_placements(plan, "w", (6, 5), (2, 2))
    assert str(error.value) == (
        "plan tp01: dimension 0 of w [6, 5] leaves 3, which does not divide by the 2 devices of mesh axis 1"
    )


@pytest.mark.parametrize(
    ("cut", "placement"),
    [(Cut(1, 0), Shard(0, 3)), (Cut(1, 0, multiple=2), Shard(0, 4)), (Cut(1, 0, multiple=8), Shard(0, 8))],
)
def test_values_are_padded(cut: Cut, placement: Shard) -> None:
    assert value_placements((cut,), (9, 4), (2, 4)) == (REPLICATE, placement)


def test_a_value_that_both_axes_cut() -> None:
    """Six pieces of two, three of them on each row of devices."""
    assert value_placements((Cut(0, 0), Cut(1, 0)), (11,), (2, 3)) == (Shard(0, 6), Shard(0, 2))


@given(shapes(), meshes, st.data())
def test_any_cuts_make_legal_placements(shape: Shape, mesh: Mesh, data: st.DataObject) -> None:
    dims = data.draw(st.tuples(*[st.sampled_from([None, *range(len(shape))])] * 2))
    cuts = tuple(
        Cut(axis, dim, data.draw(st.sampled_from([1, 1, 2]))) for axis, dim in enumerate(dims) if dim is not None
    )
    if len({(cut.dim, cut.multiple) for cut in cuts}) > len({cut.dim for cut in cuts}):
        cuts = cuts[:1]  # one dimension has one multiple
    placed = value_placements(cuts, shape, mesh)
    builder = Builder("p", mesh)
    builder.output("y", builder.input("x", TensorType(shape, "float32", placed), "latent"))
    verify(builder.program)
    for cut in cuts:
        placement = placed[cut.axis]
        assert placement == REPLICATE if mesh[cut.axis] == 1 else isinstance(placement, Shard)
        assert not isinstance(placement, Shard) or placement.chunk % cut.multiple == 0


def test_pieces_that_must_be_even() -> None:
    even = Cut(0, 1, even=True)
    assert value_placements((even,), (3, 8), (2, 1)) == (Shard(1, 4), REPLICATE)
    with pytest.raises(PlanError, match=r"dimension 1 of \[3, 7\] does not divide by the 2 devices of mesh axis 0"):
        value_placements((even,), (3, 7), (2, 1))
