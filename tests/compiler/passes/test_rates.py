"""split_by_rates: golden texts; the parts, run one after the other, compute what the whole did."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.roles import RATES
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint, Computed, Param, Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.rates import MAX_SPREAD, rates_of, split_by_rates
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import Arrays, assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden" / "rates"


def run_parts(parts: dict[str, Program], arrays: Arrays) -> Arrays:
    """The last program's outputs; programs run from the slowest to the fastest, connected by the names of outputs."""
    known = dict(arrays)
    outputs: Arrays = {}

    def array(param: Param) -> np.ndarray:
        return known[param.recipe.output] if isinstance(param.recipe, Computed) else parameter(param)

    for program in parts.values():
        outputs = run(program, {item.value.name: known[item.value.name] for item in program.inputs}, array)
        known.update(outputs)
    return outputs


def same_whole_and_in_parts(program: Program, parts: dict[str, Program]) -> None:
    arrays = inputs(program)
    assert_same(run_parts(parts, arrays), run(program, arrays, parameter), tolerance=0)


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    verify(golden.source)
    parts = split_by_rates(golden.source)
    for program in parts.values():
        verify(program)
    golden.check(parts)
    same_whole_and_in_parts(golden.source, parts)


def test_a_value_changes_as_often_as_the_fastest_that_it_is_made_of() -> None:
    program = parse(
        """\
program @p {
  input %x : f32[4] rate=latent
  input %prompt : f32[4] rate=prompt
  input %sigma : f32[4] rate=step
  param %w : f32[4] = checkpoint("w")
  %0 = exp(%w) : f32[4]
  %1 = add(%0, %prompt) : f32[4]
  %2 = add(%1, %sigma) : f32[4]
  %3 = add(%x, %0) : f32[4]
  return "2" %2
  return "3" %3
}
"""
    )
    rates = {value.name: rate for value, rate in rates_of(program).items()}
    assert rates == {
        "x": "latent",
        "prompt": "prompt",
        "sigma": "step",
        "w": "geometry",
        "0": "geometry",
        "1": "prompt",
        "2": "step",
        "3": "latent",
    }


@pytest.mark.parametrize(
    ("rows", "rate"), [(MAX_SPREAD, "step"), (MAX_SPREAD + 1, "latent")], ids=["small enough", "too large"]
)
def test_a_step_spread_over_the_prompt(rows: int, rate: str) -> None:
    builder = Builder("p")
    text = builder.input("text", TensorType((rows, 8), "float32"), "prompt")
    sigma = builder.input("sigma", TensorType((8,), "float32"), "step")
    spread = builder.emit("mul", [text, sigma])
    assert rates_of(builder.program)[spread] == rate


def test_a_step_spread_over_constants_may_be_as_large_as_it_likes() -> None:
    """The features of a timestep grow from one number; nothing of the prompt repeats in them."""
    builder = Builder("p")
    sigma = builder.input("sigma", TensorType((1,), "float32"), "step")
    frequencies = builder.param("f", TensorType((512,), "float32"), Checkpoint("f"))
    angles = builder.emit("mul", [sigma, frequencies])
    assert rates_of(builder.program)[angles] == "step"


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Sums, products and views of values [2, 6] of all rates."""
    builder = Builder("p")
    type = TensorType((2, 6), "float32")
    values = [builder.input(f"in.{rate}", type, rate) for rate in RATES[1:]]
    values += [builder.param(f"w{i}", type, Checkpoint(f"w{i}")) for i in range(2)]
    for _ in range(draw(st.integers(1, 12))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["add", "mul", "tanh", "reshape"]))
        if kind == "reshape":
            flat = builder.emit("reshape", [a], {"shape": [12]})
            values.append(builder.emit("reshape", [flat], {"shape": [2, 6]}))
        else:
            values.append(builder.emit(kind, [a] if kind == "tanh" else [a, b]))
    for index in draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=3)):
        builder.output(f"y{index}", values[index])
    return builder.program


@given(programs())
def test_any_program_in_parts_computes_the_same(program: Program) -> None:
    parts = split_by_rates(program)
    for part in parts.values():
        verify(part)
    same_whole_and_in_parts(program, parts)


@given(programs())
def test_no_part_reads_what_changes_more_often(program: Program) -> None:
    parts = split_by_rates(program)
    for rate, part in parts.items():
        assert all(RATES.index(item.rate) <= RATES.index(rate) for item in part.inputs)


@given(programs())
def test_the_loop_computes_only_what_changes_in_it(program: Program) -> None:
    """Every op of the fastest part depends on an input of its rate, views of slower values aside."""
    parts = split_by_rates(program)
    rate, part = list(parts.items())[-1]
    slower = {v for v, r in rates_of(part).items() if r != rate}
    assert {op.opcode for op in part.ops if op.results[0] in slower} <= {"reshape"}
