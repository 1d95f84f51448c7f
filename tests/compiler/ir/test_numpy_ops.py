"""The definitions and the table of ops cover each other."""

from mochi_aot.compiler.ir.numpy_ops import LOCAL, MOVES, ON_MESH
from mochi_aot.compiler.ir.ops import COLLECTIVES, OPS


def test_each_op_is_defined_once() -> None:
    assert not set(LOCAL) & set(ON_MESH)
    assert set(LOCAL) | set(ON_MESH) == set(OPS)


def test_collectives_are_defined_on_the_mesh() -> None:
    assert set(COLLECTIVES) <= set(ON_MESH)


def test_moves_are_ops() -> None:
    assert set(OPS) >= MOVES
