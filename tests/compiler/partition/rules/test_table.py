"""What rules share: placements that follow operands, give way and project. The table itself is complete."""

from mochi_aot.compiler.ir.ops import COLLECTIVES, OPS
from mochi_aot.compiler.ir.program import Value
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.partition.rules import RULES
from mochi_aot.compiler.partition.rules.table import followed, projected, released, whole_along

R = REPLICATE


def value(shape: tuple[int, ...], first: Placement = R, second: Placement = R) -> Value:
    return Value("x", TensorType(shape, "float32", (first, second)))


def test_every_op_that_a_trace_makes_has_a_rule() -> None:
    made_later = COLLECTIVES | {"group_norm_stats", "group_norm_apply", "linear_float8"}
    assert set(RULES) == set(OPS) - made_later


def test_whole_along_keeps_other_cuts_and_no_sums() -> None:
    type = value((4, 6, 8), Shard(1, 3), PARTIAL).type
    assert whole_along(type) == [Shard(1, 3), R]
    assert whole_along(type, 1) == [R, R]
    assert whole_along(type, 0, 2) == [Shard(1, 3), R]


def test_operands_are_placed_where_the_result_is_and_whole_where_they_are_broadcast() -> None:
    target: list[Placement] = [Shard(1, 3), Shard(2, 4)]
    assert projected(target, (4, 6, 8), (4, 6, 8)) == target
    assert projected(target, (4, 6, 8), (6, 1)) == [Shard(0, 3), R]
    assert projected(target, (4, 6, 8), (8,)) == [R, Shard(0, 4)]
    assert projected(target, (4, 6, 8), ()) == [R, R]
    assert projected([Shard(0, 1), R], (1, 6), (1, 6)) == [Shard(0, 1), R]


def test_a_result_follows_the_largest_operand_on_each_axis() -> None:
    large, small = value((4, 6), Shard(0, 2)), value((6,), Shard(0, 3), Shard(0, 3))
    assert followed((4, 6), [small, large]) == [Shard(0, 2), R]
    assert followed((4, 6), [value((4, 6)), value((6,), R, Shard(0, 3))]) == [R, Shard(1, 3)]
    assert followed((4, 6), [value((4, 6), PARTIAL), value((4, 6), Shard(1, 3))]) == [Shard(1, 3), R]


def test_a_cut_of_a_dimension_that_is_broadcast_is_not_followed() -> None:
    assert followed((4, 6), [value((1, 6), Shard(0, 1)), value((4, 1), R, Shard(0, 2))]) == [R, Shard(0, 2)]


def test_a_dimension_that_must_be_whole_is_not_followed() -> None:
    assert followed((4, 6), [value((4, 6), Shard(0, 2), Shard(1, 3))], 1) == [Shard(0, 2), R]


def test_two_cuts_of_one_dimension_come_from_one_operand() -> None:
    nested = value((8,), Shard(0, 4), Shard(0, 2))
    assert followed((8,), [nested]) == [Shard(0, 4), Shard(0, 2)]
    # The minor pieces of one operand do not fit into the major ones of another, nor stand without their own.
    assert followed((2, 8), [value((2, 8), Shard(1, 6)), value((8,), R, Shard(0, 5))]) == [Shard(1, 6), R]
    assert followed((2, 8), [value((2, 8), Shard(0, 1)), nested]) == [Shard(0, 1), R]


def test_a_cut_that_gives_way_takes_the_one_within_its_pieces_along() -> None:
    assert released([Shard(0, 4), Shard(0, 2)], 0) == [R, R]
    assert released([Shard(0, 4), Shard(0, 2)], 1) == [Shard(0, 4), R]
    assert released([Shard(0, 4), Shard(1, 2)], 0) == [R, Shard(1, 2)]
    assert released([R, Shard(1, 2)], 0) == [R, Shard(1, 2)]
