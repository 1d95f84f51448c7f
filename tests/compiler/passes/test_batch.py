"""batch: golden texts, and that a run equals a run of the unbatched program for each row."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.roles import RATES
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint, Program, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.batch import batch
from mochi_aot.compiler.passes.rates import rates_of
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import REORDERED, assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden" / "batch"


def same_as_row_by_row(program: Program, rate: str, size: int) -> None:
    """An output that changes with the rows has one for each; another is the same for all."""
    batched = batch(program, rate, size)
    verify(batched)
    arrays = inputs(batched)
    actual = run(batched, arrays, parameter)
    widened = {item.value.name for item in program.inputs if item.rate == rate}
    rows = [
        run(program, {n: a[row : row + 1] if n in widened else a for n, a in arrays.items()}, parameter)
        for row in range(size)
    ]
    rates = rates_of(program)
    widens = {o.name: RATES.index(rates[o.value]) >= RATES.index(rate) for o in program.outputs}
    expected = {name: np.stack([row[name] for row in rows]) if wide else rows[0][name] for name, wide in widens.items()}
    # A product of many rows may be summed in another order than that of one.
    assert_same(actual, expected, REORDERED)


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    rate, size = golden.options["rate"], int(golden.options["size"])
    verify(golden.source)
    golden.check({"batch": batch(golden.source, rate, size)})
    same_as_row_by_row(golden.source, rate, size)


@pytest.mark.parametrize(
    ("op", "opcode"),
    [
        ("%1 = softmax(%0) {dim=0} : f32[4]", "softmax"),
        ("%1 = sum(%0) {dims=[0], keepdim=false} : f32[]", "sum"),
        ("%1 = rms_norm(%w, %0) {eps=1e-06} : f32[4,4]", "rms_norm"),
        ("%1 = linear(%w, %w, %0) : f32[4,4]", "linear"),
        ("%1 = matmul(%w, %2) : f32[4,1]", "matmul"),
    ],
)
def test_an_op_without_a_rule_is_refused_by_name_and_place(op: str, opcode: str) -> None:
    program = parse(
        f"""\
program @p {{
  input %sigma : f32[1] rate=step
  param %w : f32[4,4] = checkpoint("w")
  %0 = expand(%sigma) {{shape=[4]}} : f32[4]
  %2 = reshape(%0) {{shape=[4, 1]}} : f32[4,1]
  {op}  loc "dit.py:3"
  return "y" %1
}}
"""
    )
    verify(program)
    with pytest.raises(IRError, match=rf"no batching rule for {opcode} \(dit.py:3\)"):
        batch(program, "step", 3)


def test_only_single_numbers_become_rows() -> None:
    program = parse('program @p {\n  input %s : f32[2] rate=step\n  %0 = exp(%s) : f32[2]\n  return "y" %0\n}\n')
    with pytest.raises(IRError, match=r"%s of rate step has shape \(2,\); only \[1\] can be batched"):
        batch(program, "step", 3)


def test_an_op_without_a_rule_may_work_on_what_all_rows_share() -> None:
    builder = Builder("p")
    sigma = builder.input("sigma", TensorType((1,), "float32"), "step")
    prompt = builder.input("prompt", TensorType((4,), "float32"), "prompt")
    builder.output("y", builder.emit("mul", [builder.emit("softmax", [prompt], {"dim": 0}), sigma]))
    same_as_row_by_row(builder.program, "step", 3)


SHAPES = [(4,), (1, 4), (2, 4), (2, 1, 4)]


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


def _extended(draw: st.DrawFn, builder: Builder, values: list[Value]) -> Value:
    """One more op that has a rule, on values that end in a dimension of 4."""
    a = draw(st.sampled_from(values))
    shape = a.type.shape
    kind = draw(st.sampled_from(["binary", "unary", "reshape", "permute", "expand", "slice", "concat", "linear"]))
    if kind == "binary":
        fitting = [value for value in values if _broadcast(shape, value.type.shape)]
        return builder.emit(draw(st.sampled_from(["add", "mul"])), [a, draw(st.sampled_from(fitting))])
    if kind == "reshape":
        return builder.emit("reshape", [a], {"shape": [*shape[:-1], 1, 4]})
    if kind == "permute":
        dims = [*draw(st.permutations(range(len(shape) - 1))), len(shape) - 1]
        return builder.emit("permute", [a], {"dims": dims})
    if kind == "expand":
        return builder.emit("expand", [a], {"shape": [2, *shape]})
    if kind == "slice":
        return builder.emit("slice", [a], {"dim": 0, "start": 0, "stop": 1}) if len(shape) > 1 else a
    if kind == "concat":
        same = [value for value in values if value.type.shape == shape]
        if len(shape) == 1:
            return a
        return builder.emit("concat", [a, draw(st.sampled_from(same))], {"dim": len(shape) - 2})
    if kind == "linear":
        weight = next(param.value for param in builder.program.params if param.value.name == "square")
        return builder.emit("linear", [a, weight])
    return builder.emit(draw(st.sampled_from(["tanh", "rms_norm"])), [a], {"eps": 1e-6})


@st.composite
def programs(draw: st.DrawFn) -> Program:
    builder = Builder("p")
    sigma = builder.input("sigma", TensorType((1,), "float32"), "step")
    values = [builder.input("prompt", TensorType((2, 4), "float32"), "prompt")]
    for index, shape in enumerate(SHAPES):
        values.append(builder.param(f"w{index}", TensorType(shape, "float32"), Checkpoint(f"w{index}")))
    builder.param("square", TensorType((4, 4), "float32"), Checkpoint("square"))
    values.append(builder.emit("mul", [sigma, draw(st.sampled_from(values))]))
    for _ in range(draw(st.integers(1, 8))):
        small = [value for value in values if len(value.type.shape) < 5]
        values.append(_extended(draw, builder, small))
    builder.output("last", values[-1])
    builder.output("all", builder.emit("mul", [sigma, values[-1]]))
    return builder.program


@given(programs(), st.integers(1, 4))
def test_any_program_of_ops_with_rules(program: Program, size: int) -> None:
    verify(program)
    same_as_row_by_row(program, "step", size)
