"""When values die, on lists small enough to read."""

from mochi_aot.compiler.ir.last_uses import dead_after


def test_a_value_dies_after_the_last_step_that_names_it() -> None:
    assert dead_after(["xa", "ab", "xbc"], kept="c") == [[], ["a"], ["x", "b"]]


def test_a_result_that_nothing_reads_dies_where_it_is_made() -> None:
    assert dead_after(["xa", "xc"], kept="c") == [["a"], ["x"]]


def test_a_value_that_one_step_names_twice_dies_once() -> None:
    assert dead_after(["aab"], kept="b") == [["a"]]


def test_what_is_kept_never_dies() -> None:
    assert dead_after(["wa", "wab"], kept="wb") == [[], ["a"]]
