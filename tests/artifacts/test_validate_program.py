from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.schema import (
    Instruction,
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
)
from mochi_aot.artifacts.validate_program import check_program, check_spec
from tests.artifacts.samples import PROGRAM, SPLIT, WHOLE


def instruction(operands: list[int], results: list[int], free: list[int], op: str = "add") -> Instruction:
    return Instruction(op, operands, results, {}, free, "")


def with_instructions(*instructions: Instruction) -> Program:
    """The sample (input 0, weight 1, output 3) with other instructions."""
    return replace(PROGRAM, instructions=list(instructions))


MAKE_2 = instruction([0, 1], [2], [0])
MAKE_3 = instruction([2], [3], [2])


@pytest.mark.parametrize(
    "program",
    [
        PROGRAM,
        with_instructions(MAKE_2, MAKE_3),
        with_instructions(instruction([0], [2], []), MAKE_3),  # the input is left to the caller
        with_instructions(instruction([1], [3], [])),  # an unused input
        with_instructions(instruction([0], [2, 3], [2])),  # a result nobody uses is freed where it is made
        replace(PROGRAM, outputs=[ProgramOutput("same", 0, SPLIT)], instructions=[]),
        replace(PROGRAM, outputs=[ProgramOutput("a", 3, WHOLE), ProgramOutput("b", 3, WHOLE)]),
    ],
)
def test_good_programs_pass(program: Program) -> None:
    check_program(program, "p")


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ([MAKE_3], "instruction 0 (add): uses value 2 before it is defined"),
        ([instruction([0], [2], [2]), MAKE_3], "instruction 1 (add): uses value 2 after it was freed"),
        ([MAKE_2, instruction([0], [3], [2])], "instruction 1 (add): uses value 0 after it was freed"),
        ([instruction([0], [1], [])], "instruction 0 (add): defines value 1 a second time"),
        ([instruction([0], [2, 2], [])], "instruction 0 (add): defines value 2 a second time"),
        ([instruction([0], [2], [0, 0]), MAKE_3], "instruction 0 (add): frees value 0 after it was freed"),
        ([instruction([0], [3], [9])], "instruction 0 (add): frees value 9 before it is defined"),
        ([instruction([0], [3], [1])], "frees value 1, which is a weight or an output"),
        ([instruction([0], [3], [3])], "frees value 3, which is a weight or an output"),
        ([MAKE_2, instruction([2], [3], [])], "expected every result to be freed, seen [2] never freed"),
        ([MAKE_2], "output 'latents' is a value that nothing defines"),
        ([instruction([0], [-1], [])], "expected value ids from 0 to 16777215, seen -1"),
        ([instruction([0], [1 << 24], [])], "seen 16777216"),
        ([instruction([0], [], [])], "expected a result, seen none"),
        ([instruction([0], [3], [], op="")], "expected an op name"),
        ([instruction([0], [3], [], op="__import__")], "expected an op name"),
        ([instruction([0], [3], [], op="os.system\n")], "expected an op name"),
    ],
)
def test_value_ids_must_be_consistent(instructions: list[Instruction], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_program(with_instructions(*instructions), "p")
    assert str(error.value).startswith("p: ")
    assert message in str(error.value)


def test_freeing_an_output_that_is_an_input_is_refused() -> None:
    program = replace(PROGRAM, outputs=[ProgramOutput("same", 0, SPLIT)])
    with pytest.raises(BundleError, match=r"instruction 0 \(mul\): frees value 0, which is a weight or an output"):
        check_program(program, "p")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "expected a name and a plan"),
        ({"plan": ""}, "expected a name and a plan"),
        ({"inputs": [ProgramInput("latents", 0, SPLIT, "often")]}, "input 'latents': rate 'often' is not one of"),
        (
            {"inputs": [ProgramInput("a", 0, SPLIT, "step"), ProgramInput("a", 5, SPLIT, "step")]},
            "input 'a' occurs twice",
        ),
        ({"inputs": [ProgramInput("", 0, SPLIT, "step")]}, "an input without a name"),
        ({"inputs": [ProgramInput("a", 1, SPLIT, "step")]}, "weight 'scale': defines value 1 a second time"),
        (
            {"weights": [ProgramWeight("scale", 1, "float32", [4, 3]), ProgramWeight("scale", 9, "float32", [4, 3])]},
            "weight 'scale' occurs twice",
        ),
        ({"outputs": [ProgramOutput("a", 3, WHOLE)] * 2}, "output 'a' occurs twice"),
        ({"stats": ProgramStats(0, 0, -1, {})}, "expected no negative number in stats"),
        ({"stats": ProgramStats(0, 0, 0, {"all_reduce": -1})}, "expected no negative number in stats"),
    ],
)
def test_interface_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_program(replace(PROGRAM, **changes), "p")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPLIT, dtype="float64"), "unknown dtype 'float64', expected one of float32, bfloat16"),
        (replace(SPLIT, layout="tiles"), "unknown layout 'tiles', expected one of row_major, tile"),
        (replace(SPLIT, shape=[4, 0]), r"expected positive dimensions, seen \[4, 0\]"),
        (replace(SPLIT, shape=[4, -6]), r"expected positive dimensions"),
        (replace(SPLIT, local_shape=[4, 6]), r"expected the local shape \[4, 3\], seen \[4, 6\]"),
        (replace(SPLIT, local_shape=[4]), r"expected the local shape \[4, 3\], seen \[4\]"),
        (replace(SPLIT, placements=[None, None]), r"expected the local shape \[4, 6\], seen \[4, 3\]"),
        (replace(SPLIT, placements=[None, Placement(2, 3)]), r"shards dim 2 of shape \[4, 6\]"),
        (replace(SPLIT, placements=[None, Placement(-1, 3)]), r"shards dim -1 of shape \[4, 6\]"),
        (replace(SPLIT, placements=[None, Placement(1, 0)]), "expected a positive chunk, seen 0"),
        (replace(SPLIT, placements=[Placement(1, 3), Placement(1, 3)]), "sharded dim 1 occurs twice"),
    ],
)
def test_specs_must_follow_from_their_placements(spec: TensorSpec, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_spec(spec, "p")


def test_block_floats_are_a_dtype_of_devices() -> None:
    check_spec(replace(SPLIT, dtype="bfloat8_b", layout="tile"), "p")


def test_a_scalar_is_a_shape() -> None:
    check_spec(TensorSpec("bool", [], [], [None, None]), "p")


@given(st.data())
def test_freeing_each_value_at_its_last_use_is_always_accepted(data: st.DataObject) -> None:
    """Random straight-line programs; dropping any one free makes them leak."""
    count = data.draw(st.integers(1, 8))
    operands = [data.draw(st.lists(st.integers(0, index), min_size=1, max_size=3)) for index in range(count)]
    last_use = {value: value - 1 for value in range(1, count + 1)}
    last_use |= {value: index for index, used in enumerate(operands) for value in used if value != 0}
    del last_use[count]  # the last result is the output
    frees = [sorted(value for value, index in last_use.items() if index == step) for step in range(count)]
    steps = [instruction(operands[i], [i + 1], frees[i]) for i in range(count)]
    program = replace(PROGRAM, weights=[], outputs=[ProgramOutput("out", count, WHOLE)], instructions=steps)
    check_program(program, "p")
    if last_use:
        step = last_use[data.draw(st.sampled_from(sorted(last_use)))]
        steps[step] = replace(steps[step], free=frees[step][1:])
        with pytest.raises(BundleError, match="never freed"):
            check_program(replace(program, instructions=steps), "p")
