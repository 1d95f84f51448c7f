"""Which values are tables of steps."""

from mochi_aot.artifacts.roles import ROLES
from mochi_aot.compiler.ir.program import Input, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.lower.ttnn.tables import is_table, makes_tables

ROWS = TensorType((64, 1), "float32")


def item(name: str, rate: str) -> Input:
    return Input(Value(name, ROWS), rate)


def test_the_program_that_runs_for_every_step_makes_tables() -> None:
    assert [role for role in ROLES if makes_tables(role)] == ["prepare_steps"]
    assert not makes_tables("a program of a test")


def test_what_another_program_made_for_every_step_is_a_table() -> None:
    assert is_table("denoise", item("denoise.step.3", "step"))
    assert not is_table("denoise", item("denoise.prompt.3", "prompt"))
    assert not is_table("prepare_steps", item("sigma", "step"))  # the host gives it
    assert not is_table("a program of a test", item("anything", "step"))
