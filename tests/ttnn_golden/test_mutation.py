"""Faults put into the source of the runtime's tables are found by running the programs of a small model."""

import sys

import pytest

from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn import context, executor, ops
from tests.ttnn_golden.faults import REFUSED, ROUNDED_LINKS, WRONG
from tests.ttnn_golden.mutation import Mutation, mutated

MESH = (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_is_wrong_departs(subject, name):
    role, mutation = WRONG[name]
    examined = subject(MESH, role)
    with mutated(mutation):
        wrong = examined.first_wrong()
    assert wrong is not None
    if mutation.old.startswith("ttnn."):  # one row of the table is wrong
        suspected = {examined.program.instructions[index].op for index in wrong.suspects}
        assert mutation.old.removeprefix("ttnn.") in suspected, str(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_call_that_is_wrong_is_refused(subject, name):
    role, mutation = REFUSED[name]
    examined = subject(MESH, role)
    with mutated(mutation), pytest.raises(BackendError, match="failed: "):
        examined.first_wrong()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["encode_text", ROUNDED_LINKS])
def test_nothing_is_found_where_nothing_is_wrong(subject, role):
    """Nor where a table was imported anew without a change of what it means."""
    with mutated(Mutation("ops.call", "def calls(", "def calls(  # as it was\n")):
        assert subject(MESH, role).first_wrong() is None


def test_a_change_is_over_when_it_is_said_to_be():
    before = executor.OPS, executor.Context, sys.modules["mochi_aot.runtime.ttnn.ops.attention"]
    with mutated(Mutation("ops.plain", "ttnn.tanh", "ttnn.sigmoid")):
        assert executor.OPS is not before[0] and executor.Context is not before[1]
        assert ops.OPS is before[0] and context.Context is before[1]  # what others have imported stays
    assert before == (executor.OPS, executor.Context, sys.modules["mochi_aot.runtime.ttnn.ops.attention"])


def test_a_change_of_what_is_not_there_is_an_error():
    change = mutated(Mutation("ops.attention", "ttnn.tanh", "ttnn.sigmoid"))
    with pytest.raises(ValueError, match=r"ops.attention has 'ttnn.tanh' 0 times, expected once"), change:
        pass
