"""moves: from any placement to any other, the collectives bring every element to its place."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mochi_aot.compiler.ir.interpreter import evaluate
from mochi_aot.compiler.ir.numpy_values import Devices, assemble, distribute
from mochi_aot.compiler.ir.ops import infer
from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Partial, Shard, TensorType
from mochi_aot.compiler.ir.verify_collectives import check_collective
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.reshard import moves
from tests.compiler.partition.legal import Placements, meshes, placements, shapes

POISON = 99.0


def held(array: np.ndarray, type: TensorType, mesh: Mesh) -> Devices:
    """What devices hold of an array: along a partial axis, summands that add up to it."""
    for axis, placement in enumerate(type.placements):
        if isinstance(placement, Partial):
            summands = [array * (c + 2) for c in range(mesh[axis] - 1)]
            summands.append(array - sum(summands))
            whole = type.placed((*type.placements[:axis], REPLICATE, *type.placements[axis + 1 :]))
            parts = [held(summand, whole, mesh) for summand in summands]
            return [parts[divmod(d, mesh[1])[axis]][d] for d in range(mesh[0] * mesh[1])]
    return distribute(array, type, mesh, POISON)


def carried_out(type: TensorType, target: Placements, mesh: Mesh) -> np.ndarray:
    """0, 1, 2, ... placed as `type`, moved to `target` with every step checked, and put together again."""
    array = np.arange(np.prod(type.shape), dtype=np.float32).reshape(type.shape)
    devices = held(array, type, mesh)
    value = Value("x", type)
    for move in moves(type, target):
        op = Op(move.opcode, [value], [Value("y", move.type)], move.attrs)
        check_collective(op)
        local = infer(op.opcode, op.attrs, [(value.type.local_shape, type.dtype)], mesh)
        assert local == [(move.type.local_shape, type.dtype)]
        (devices,) = evaluate(op, mesh, [devices], POISON)
        value = op.result
    assert value.type == type.placed(target)
    np.testing.assert_array_equal(assemble(devices, value.type, mesh), array)
    return array


@st.composite
def journeys(draw: st.DrawFn) -> tuple[TensorType, Placements, Mesh]:
    mesh, shape = draw(meshes), draw(shapes())
    source = draw(placements(shape, mesh, partial=True))
    return TensorType(shape, "float32", source), draw(placements(shape, mesh)), mesh


@settings(max_examples=400)
@given(journeys())
def test_from_any_placement_to_any_other(journey: tuple[TensorType, Placements, Mesh]) -> None:
    carried_out(*journey)


def steps(source: Placements, target: Placements, shape: tuple[int, ...] = (8, 8), mesh: Mesh = (2, 2)) -> list[str]:
    """The collectives' names with their axes, after carrying them out."""
    type = TensorType(shape, "float32", source)
    carried_out(type, target, mesh)
    return [f"{move.opcode} {move.attrs['axis']}" for move in moves(type, target)]


ROWS, COLUMNS = Shard(0, 4), Shard(1, 4)
NESTED = (Shard(0, 4), Shard(0, 2))
WHOLE = (REPLICATE, REPLICATE)


def test_nothing_to_do() -> None:
    for placed in (WHOLE, (ROWS, COLUMNS), NESTED):
        assert steps(placed, placed) == []


def test_one_collective_where_one_will_do() -> None:
    assert steps(WHOLE, (ROWS, REPLICATE)) == ["shard 0"]
    assert steps((ROWS, REPLICATE), WHOLE) == ["all_gather 0"]
    assert steps((REPLICATE, ROWS), (REPLICATE, COLUMNS)) == ["all_to_all 1"]
    assert steps((PARTIAL, REPLICATE), WHOLE) == ["all_reduce 0"]
    assert steps((REPLICATE, PARTIAL), (REPLICATE, ROWS)) == ["reduce_scatter 1"]


def test_axes_are_moved_on_their_own() -> None:
    assert steps((ROWS, COLUMNS), (ROWS, REPLICATE)) == ["all_gather 1"]
    assert steps((PARTIAL, COLUMNS), (REPLICATE, COLUMNS)) == ["all_reduce 0"]
    assert steps((PARTIAL, PARTIAL), WHOLE) == ["all_reduce 0", "all_reduce 1"]


def test_two_cuts_of_one_dimension_come_and_go_minor_last_and_first() -> None:
    assert steps(WHOLE, NESTED) == ["shard 0", "shard 1"]
    assert steps(NESTED, WHOLE) == ["all_gather 1", "all_gather 0"]
    assert steps((PARTIAL, PARTIAL), NESTED) == ["reduce_scatter 0", "reduce_scatter 1"]


def test_a_minor_cut_moves_within_a_major_one_that_stays() -> None:
    assert steps(NESTED, (ROWS, COLUMNS)) == ["all_to_all 1"]
    assert steps((ROWS, COLUMNS), NESTED) == ["all_to_all 1"]


def test_a_minor_cut_makes_way_for_a_change_of_the_major_one() -> None:
    """Even if it looks the same before and after: its pieces are others."""
    shape, mesh = (8, 8), (2, 4)
    assert steps((ROWS, Shard(0, 2)), (REPLICATE, Shard(0, 2)), shape, mesh) == [
        "all_gather 1",
        "all_gather 0",
        "shard 1",
    ]
    assert steps((REPLICATE, Shard(0, 2)), (ROWS, Shard(0, 2)), shape, mesh) == ["all_gather 1", "shard 0", "shard 1"]


def test_sums_are_not_scattered_over_a_dimension_that_is_cut_otherwise() -> None:
    assert steps((PARTIAL, ROWS), (ROWS, COLUMNS)) == ["all_reduce 0", "all_to_all 1", "shard 0"]
    assert steps((ROWS, PARTIAL), (COLUMNS, ROWS)) == ["all_reduce 1", "all_to_all 0", "shard 1"]


def test_the_attributes_of_each_collective() -> None:
    source = TensorType((5, 6), "float32", (Shard(0, 3), PARTIAL))
    assert [(move.opcode, move.attrs) for move in moves(source, (Shard(1, 3), Shard(1, 2)))] == [
        ("all_reduce", {"axis": 1}),
        ("all_to_all", {"axis": 0, "gather_dim": 0, "size": 5, "split_dim": 1, "chunk": 3}),
        ("shard", {"axis": 1, "dim": 1, "chunk": 2}),
    ]
    whole = [move.attrs for move in moves(TensorType((5,), "float32", (Shard(0, 4), Shard(0, 2))), WHOLE)]
    assert whole == [{"axis": 1, "dim": 0, "size": 4}, {"axis": 0, "dim": 0, "size": 5}]
