"""Which rule an op gets does not depend on the order in which rules are registered."""

import pytest

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.rules import table
from mochi_aot.compiler.lower.ttnn.rules.table import Rule, rule, rule_for, rule_where


def general(lo: Lowerer, op: Op) -> None:
    """For all ops."""


def first(lo: Lowerer, op: Op) -> None:
    """For some."""


def second(lo: Lowerer, op: Op) -> None:
    """For others."""


@pytest.fixture(autouse=True)
def empty_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_GENERAL", {})
    monkeypatch.setattr(table, "_SPECIAL", {})


def of(kind: str) -> Op:
    return Op("sample", [], [], {"kind": kind}, "here.py:1")


def chosen() -> list[Rule | None]:
    return [rule_for(of(kind)) for kind in ("a", "b", "c")]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_special_rule_comes_before_the_general_one_whatever_the_order(order: tuple[int, ...]) -> None:
    steps = [
        lambda: rule("sample", "other")(general),
        lambda: rule_where("sample", lambda op: op.attrs["kind"] == "a")(first),
        lambda: rule_where("sample", lambda op: op.attrs["kind"] == "b")(second),
    ]
    for index in order:
        steps[index]()
    assert chosen() == [first, second, general]


def test_an_op_without_a_rule_has_none() -> None:
    rule_where("sample", lambda op: op.attrs["kind"] == "a")(first)
    assert chosen() == [first, None, None]


def test_two_special_rules_for_one_op_are_an_error() -> None:
    for function in (first, second):
        rule_where("sample", lambda op: True)(function)
    with pytest.raises(ValueError, match=r"sample at here.py:1: the rules first and second both apply"):
        rule_for(of("a"))
