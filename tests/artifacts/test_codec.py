import math
from dataclasses import fields, is_dataclass, make_dataclass, replace
from types import NoneType, UnionType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.codec import MAX_DEPTH, from_plain, to_plain
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.schema import Attr, Instruction, Manifest, Placement, Program, ProgramStats, TensorSpec
from tests.artifacts.samples import PROGRAM, SPLIT

# A line of text, with nothing in it that a terminal obeys.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=8)
LEAVES = {
    NoneType: st.none(),
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 63) - 1),
    float: st.floats(allow_nan=False),
    str: TEXT,
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any instance of a type of the schema, valid or not as a bundle."""
    if kind in LEAVES:
        return LEAVES[kind]
    if isinstance(kind, TypeAliasType):
        return free_values(get_args(kind.__value__))
    if isinstance(kind, UnionType):
        return st.one_of(*(values(member) for member in get_args(kind)))
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)})
    if get_origin(kind) is list:
        return st.lists(values(get_args(kind)[0]), max_size=2)
    return st.dictionaries(TEXT, values(get_args(kind)[1]), max_size=2)


def free_values(members: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Values of the recursive types Attr and Plain, given what they are a union of."""
    leaf = st.one_of(*(LEAVES[member] for member in members if member in LEAVES))
    maps = any(get_origin(member) is dict for member in members)

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lists = st.lists(inner, max_size=3)
        return lists | st.dictionaries(TEXT, inner, max_size=3) if maps else lists

    return st.recursive(leaf, nest, max_leaves=5)


@given(values(Program))
def test_any_program_returns_from_plain_values(program: Program) -> None:
    assert from_plain(Program, to_plain(Program, program, "p"), "p") == program


@given(values(Manifest))
def test_any_manifest_returns_from_plain_values(manifest: Manifest) -> None:
    assert from_plain(Manifest, to_plain(Manifest, manifest, "m"), "m") == manifest


def test_plain_values_are_maps_of_fields_in_order() -> None:
    assert to_plain(TensorSpec, SPLIT, "spec") == {
        "dtype": "float32",
        "shape": [4, 6],
        "local_shape": [4, 3],
        "placements": [None, {"dim": 1, "chunk": 3}],
        "layout": "row_major",
    }
    assert list(to_plain(TensorSpec, SPLIT, "spec")) == ["dtype", "shape", "local_shape", "placements", "layout"]


def test_free_maps_come_out_sorted() -> None:
    stats = ProgramStats(0, 0, 0, {"b": 1, "a": 2})
    assert list(to_plain(ProgramStats, stats, "stats")["collectives"]) == ["a", "b"]


def test_infinity_and_the_type_of_numbers_survive() -> None:
    attrs: dict[str, Attr] = {"value": -math.inf, "one": 1, "one_float": 1.0, "yes": True}
    instruction = Instruction("where_scalar", [0], [1], attrs, [], "")
    back = from_plain(Instruction, to_plain(Instruction, instruction, "i"), "i")
    assert {key: type(value) for key, value in back.attrs.items()} == {
        "value": float,
        "one": int,
        "one_float": float,
        "yes": bool,
    }
    assert back.attrs["value"] == -math.inf


@pytest.mark.parametrize(
    ("attr", "message"),
    [
        ((1, 2), "tuple"),
        ([1, [2, (3,)]], "instructions[0].attrs['key'][1][1]: expected bool or int or float or str or list or nothing"),
        ({"a": 1}, "seen map"),
        (1 << 63, "expected an int of 64 bits, seen int a larger number"),
        (b"bytes", "seen bytes"),
        (object, "seen type"),
    ],
)
def test_writing_refuses_what_the_format_does_not_hold(attr: Any, message: str) -> None:
    program = replace(PROGRAM, instructions=[replace(PROGRAM.instructions[0], attrs={"key": attr})])
    with pytest.raises(BundleError) as error:
        to_plain(Program, program, "program x")
    assert str(error.value).startswith("program x: instructions[0].attrs['key']")
    assert message in str(error.value)


def test_writing_refuses_numbers_that_only_look_like_ints() -> None:
    with pytest.raises(BundleError, match=r"^p: chunk: expected int, seen bool True$"):
        to_plain(Placement, Placement(0, True), "p")
    with pytest.raises(BundleError, match=r"^p: dim: expected int, seen float 1.0$"):
        to_plain(Placement, Placement(1.0, 1), "p")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": 3}, "spec: dtype: expected str, seen int 3"),
        ({"shape": "4x6"}, "spec: shape: expected list, seen str '4x6'"),
        ({"shape": [4, None]}, "spec: shape[1]: expected int, seen nothing"),
        ({"shape": [4, 6.0]}, "spec: shape[1]: expected int, seen float 6.0"),
        ({"placements": [None, 7]}, "spec: placements[1]: expected map or nothing, seen int 7"),
        ({"placements": [{"dim": 1}]}, "spec: placements[0]: expected a field 'chunk' of Placement, seen none"),
        (
            {"placements": [{"dim": 1, "chunk": 2, "extra": 0}]},
            "spec: placements[0]: expected only the fields of Placement, seen an unknown field str 'extra'",
        ),
        ({"__class__": "x"}, "spec: the top level: expected only the fields of TensorSpec, seen an unknown field"),
    ],
)
def test_reading_names_the_field_and_what_was_seen(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        from_plain(TensorSpec, {**to_plain(TensorSpec, SPLIT, "spec"), **change}, "spec")
    assert str(error.value).startswith(message)


def test_reading_names_a_missing_field_and_a_wrong_top_level() -> None:
    with pytest.raises(BundleError, match="expected a field 'chunk' of Placement, seen none"):
        from_plain(Placement, {"dim": 0}, "p")
    with pytest.raises(BundleError, match="the top level: expected a map of the fields of Placement, seen list"):
        from_plain(Placement, [0, 1], "p")


def test_reading_bounds_the_depth_of_free_values() -> None:
    def instruction(levels: int) -> dict[str, Any]:
        nested: Any = 0
        for _ in range(levels):
            nested = [nested]
        return {"op": "x", "operands": [], "results": [], "attrs": {"a": nested}, "free": [], "loc": ""}

    assert from_plain(Instruction, instruction(MAX_DEPTH - 1), "i").op == "x"
    with pytest.raises(BundleError, match=f"expected at most {MAX_DEPTH} levels, seen more"):
        from_plain(Instruction, instruction(MAX_DEPTH), "i")
    with pytest.raises(BundleError, match="levels"):
        from_plain(Instruction, instruction(100_000), "i")


@pytest.mark.parametrize("char", ["\x1b", "\n", "\r", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"])
def test_text_has_nothing_that_a_terminal_obeys_nor_another_line(char: str) -> None:
    plain = to_plain(Instruction, Instruction("x", [], [], {}, [], ""), "i")
    for change in ({"loc": f"a{char}b"}, {"attrs": {"a": [char]}}, {"attrs": {char: 1}}):
        with pytest.raises(BundleError, match="expected a line of text, seen str '") as error:
            from_plain(Instruction, {**plain, **change}, "i")
        assert str(error.value).isprintable()


def test_text_of_any_script_is_read() -> None:
    # Joiners, and a space that does not break, are no ends of lines.
    written = "caf\xe9 \u65e5\u672c \u0915\u094d\u200d\u0937 \U0001f98a\u200d\U0001f525 a\xa0b"
    plain = to_plain(Instruction, Instruction("x", [], [], {}, [], written), "i")
    assert from_plain(Instruction, plain, "i").loc == written


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(BundleError) as error:
        from_plain(Placement, {"dim": "x" * 10_000, "chunk": 1}, "p")
    assert len(str(error.value)) < 120


def test_a_type_outside_the_format_is_the_programmers_error() -> None:
    with pytest.raises(TypeError, match="no rule for"):
        to_plain(make_dataclass("Odd", [("data", bytes)]), object(), "odd")
    with pytest.raises(TypeError, match="look alike"):
        to_plain(make_dataclass("Odd", [("data", Placement | TensorSpec)]), object(), "odd")
