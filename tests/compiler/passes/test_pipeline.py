"""What a pass made is verified, but for candidates of a choice."""

import pytest

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.passes.pipeline import Applied, Pipeline

EMPTY = Program("empty")


def test_what_a_pass_made_is_verified() -> None:
    with pytest.raises(IRError, match="@empty: the program has no outputs"):
        Pipeline().apply("spoil", lambda program: program, EMPTY)


def test_candidates_are_told_and_not_verified() -> None:
    told: list[Applied] = []
    assert Pipeline("64x64x7", told.append, verified=False).apply("spoil", lambda program: program, EMPTY) is EMPTY
    assert [(one.scope, one.name) for one in told] == [("64x64x7", "spoil")]
