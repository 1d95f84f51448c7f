"""simplify: golden texts, the same results as before, and nothing left to do."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Program, Value
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.simplify import simplify
from tests.compiler.golden import Golden, cases, check_pass
from tests.compiler.numbers import assert_same

FOLDER = Path(__file__).parent / "golden" / "simplify"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    check_pass(golden, "simplify", simplify)


@cases(FOLDER)
def test_the_input_is_left_alone(golden: Golden) -> None:
    before = to_text(golden.source)
    simplify(golden.source)
    assert to_text(golden.source) == before


def _reshape(draw: st.DrawFn, builder: Builder, x: Value) -> Value:
    shape = draw(st.sampled_from([(12,), (3, 4), (4, 3), (2, 6), (1, 12), (2, 2, 3)]))
    return builder.emit("reshape", [x], {"shape": list(shape)})


def _permute(draw: st.DrawFn, builder: Builder, x: Value) -> Value:
    return builder.emit("permute", [x], {"dims": draw(st.permutations(range(len(x.type.shape))))})


def _scale(draw: st.DrawFn, builder: Builder, x: Value) -> Value:
    return builder.emit("mul_scalar", [x], {"value": draw(st.sampled_from([2.0, -1.0]))})


def _halve(draw: st.DrawFn, builder: Builder, x: Value) -> Value:
    """Both halves of a dimension, put together in either order."""
    dim = draw(st.integers(0, len(x.type.shape) - 1))
    size = x.type.shape[dim]
    pieces = [
        builder.emit("slice", [x], {"dim": dim, "start": start, "stop": stop})
        for start, stop in ((0, (size + 1) // 2), ((size + 1) // 2, size))
        if start < stop
    ]
    return builder.emit("concat", draw(st.permutations(pieces)), {"dim": dim})


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Moves and products of twelve numbers, with many repetitions."""
    builder = Builder("p")
    values = [builder.input("x", TensorType((12,), "float32"), "latent")]
    for _ in range(draw(st.integers(1, 10))):
        operand = draw(st.sampled_from(values))
        values.append(draw(st.sampled_from([_reshape, _permute, _scale, _halve]))(draw, builder, operand))
    for index in draw(st.sets(st.integers(0, len(values) - 1), min_size=1)):
        builder.output(f"y{index}", values[index])
    return builder.program


@given(programs())
def test_any_program_computes_the_same_with_no_more_ops(program: Program) -> None:
    after = simplify(program)
    verify(after)
    assert len(after.ops) <= len(program.ops)
    arrays = {"x": np.arange(12, dtype=np.float32)}
    assert_same(run(after, arrays, {}), run(program, arrays, {}), tolerance=0)


@given(programs())
def test_a_second_time_changes_nothing_but_names(program: Program) -> None:
    once = simplify(program)
    twice = simplify(once)
    assert [(op.opcode, op.attrs) for op in twice.ops] == [(op.opcode, op.attrs) for op in once.ops]
