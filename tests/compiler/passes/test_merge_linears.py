"""merge_linears: golden texts on one device and on meshes, the same results as before, and the size limit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Attrs, Checkpoint, Program
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes import merge_linears as module
from mochi_aot.compiler.passes.merge_linears import linear_groups, merge_linears
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import REORDERED, assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden" / "merge_linears"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    verify(golden.source)
    after = merge_linears(golden.source)
    verify(after)
    golden.check({"merge_linears": after})
    same_before_and_after(golden.source)


def same_before_and_after(program: Program) -> None:
    """Poisoned padding shows a joined product that reads any."""
    arrays = inputs(program)
    expected = run(program, arrays, parameter, poison=7.0)
    actual = run(merge_linears(program), arrays, parameter, poison=7.0)
    # One row of a product is the same sum whatever rows surround it; bfloat16 results round it alike.
    assert_same(actual, expected, REORDERED)


def three_linears() -> Program:
    """Three products of 4 x 4 weights, 64 bytes each."""
    builder = Builder("p")
    x = builder.input("x", TensorType((2, 4), "float32"), "latent")
    for name in "abc":
        weight = builder.param(name, TensorType((4, 4), "float32"), Checkpoint(name))
        builder.output(name, builder.emit("linear", [x, weight]))
    return builder.program


@pytest.mark.parametrize(
    ("limit", "sizes"), [(192, [3]), (191, [2]), (128, [2]), (127, []), (1, [])], ids=lambda value: str(value)
)
def test_a_group_ends_before_it_is_larger_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(module, "MAX_MERGED_BYTES", limit)
    program = three_linears()
    assert [len(group) for group in linear_groups(program)] == sizes
    same_before_and_after(program)


def test_the_limit_counts_what_one_device_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MERGED_BYTES", 64)
    program = sharded_linears((1, 4), "row", [(1, 4), (1, 4), (1, 4), (1, 4), (1, 4)])
    assert [len(group) for group in linear_groups(program)] == [4]


def sharded_linears(mesh: tuple[int, int], cut: str, widths: list[tuple[int, int]]) -> Program:
    """Products of weights of (chunk, in) rows a device, all cut by `cut` along axis 1."""
    builder = Builder("p", mesh)
    width, pieces = widths[0][1], mesh[1]
    columns = Shard(1, width // pieces)
    x = builder.input("x", TensorType((3, width), "float32", (REPLICATE, REPLICATE)), "latent")
    if cut == "column":
        attrs: Attrs = {"axis": 1, "dim": 1, "chunk": columns.chunk}
        (x,) = builder.emit_typed("shard", [x], [x.type.placed((REPLICATE, columns))], attrs)
    for index, (rows, _) in enumerate(widths):
        size = rows * pieces if cut == "row" else rows
        weight_cuts: dict[str, Placement] = {"row": Shard(0, rows), "column": columns, "none": REPLICATE}
        result_cuts: dict[str, Placement] = {"row": Shard(1, rows), "column": PARTIAL, "none": REPLICATE}
        weight_type = TensorType((size, width), "float32", (REPLICATE, weight_cuts[cut]))
        weight = builder.param(f"w{index}", weight_type, Checkpoint(f"w{index}"))
        type = TensorType((3, size), "float32", (REPLICATE, result_cuts[cut]))
        (value,) = builder.emit_typed("linear", [x, weight], [type])
        if cut == "column":
            (value,) = builder.emit_typed("all_reduce", [value], [type.placed((REPLICATE, REPLICATE))], {"axis": 1})
        builder.output(f"y{index}", value)
    return builder.program


@given(
    columns=st.integers(1, 4),
    cut=st.sampled_from(["row", "column", "none"]),
    rows=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    limit=st.sampled_from([1 << 20, 96, 200]),
)
def test_any_widths_and_cuts(columns: int, cut: str, rows: list[int], limit: int) -> None:
    program = sharded_linears((1, columns), cut, [(n, 12) for n in rows])
    verify(program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_MERGED_BYTES", limit)
        after = merge_linears(program)
        verify(after)
        same_before_and_after(program)
    merged = [op for op in after.ops if op.opcode == "linear"]
    assert sum(op.result.type.shape[-1] for op in merged) == sum(o.value.type.shape[-1] for o in program.outputs)
