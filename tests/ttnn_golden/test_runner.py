from dataclasses import replace

import numpy as np
import pytest
import torch
import ttnn

from mochi_aot.artifacts.schema import (
    Placement,
    Program,
    ProgramInput,
    ProgramOutput,
    ProgramStats,
    ProgramWeight,
    TensorSpec,
)
from mochi_aot.runtime.errors import BackendError
from mochi_aot.tools.golden.types import Chips
from tests.ttnn_golden.chips import instruction, normal
from tests.ttnn_golden.compare import Departure, first_departure, pcc, record
from tests.ttnn_golden.runner import chip_mesh, place, run_golden, run_on_chips

MESH, EXACT = chip_mesh((2, 2)), chip_mesh((2, 2), rounded=False)
# 5 tokens over the columns in pieces of 3, the inner width over the rows.
TOKENS = TensorSpec("bfloat16", [5, 8], [3, 4], [Placement(1, 4), Placement(0, 3)])
RESULT = TensorSpec("bfloat16", [5, 6], [3, 6], [None, Placement(0, 3)])
# x @ w summed over the rows, then silu of it. Values: 0 x, 1 w, 2 product, 3 sum, 4 result.
PROGRAM = Program(
    name="sample",
    mesh=[2, 2],
    plan="rows",
    inputs=[ProgramInput("x", 0, TOKENS, "latent")],
    weights=[ProgramWeight("w", 1, "bfloat16", [4, 6])],
    outputs=[ProgramOutput("y", 4, RESULT)],
    instructions=[
        instruction("experimental.minimal_matmul", [0, 1], [2], [0], compute="hifi2"),
        instruction("all_reduce", [2], [3], [2], axis=0),
        instruction("silu", [3], [4], [3]),
    ],
    stats=ProgramStats(0, 0, 0, {}),
)
X, W = normal(0, 5, 8), normal(1, 8, 6)


def weights(mesh=MESH):
    halves = [mesh.held(half, ttnn.bfloat16) for half in W.chunk(2)]
    return {"w": Chips([halves[0], halves[0], halves[1], halves[1]], ttnn.bfloat16)}


def with_instruction(index, **changes):
    changed = list(PROGRAM.instructions)
    changed[index] = replace(changed[index], **changes)
    return replace(PROGRAM, instructions=changed)


@pytest.mark.parametrize("whole", [X, X.numpy()])
def test_a_program_over_a_mesh(whole):
    y = run_golden(PROGRAM, MESH, {"x": whole}, weights())["y"]
    assert y.shape == (5, 6) and y.dtype == torch.bfloat16
    # Three roundings to 8 bits, of values below 16.
    torch.testing.assert_close(y.float(), torch.nn.functional.silu(X @ W), rtol=0.02, atol=0.1)


def passing(spec, instructions=()):
    """A program whose output is its input, or the result of `instructions` on value 0."""
    value = instructions[-1].results[0] if instructions else 0
    return replace(
        PROGRAM,
        inputs=[ProgramInput("y", 0, spec, "latent")],
        weights=[],
        outputs=[ProgramOutput("y", value, spec)],
        instructions=list(instructions),
    )


def test_masks_become_numbers():
    program = passing(TensorSpec("bfloat16", [4], [4], [None, None]))
    mask = run_golden(program, MESH, {"y": np.array([True, True, False, False])}, {})["y"]
    assert mask.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_values_pass_from_program_to_program():
    values = run_on_chips(PROGRAM, MESH, {"x": place(X, TOKENS, MESH)}, weights())["y"]
    assert len(values.pieces) == 4 and values.shape == [3, 6] and values.dtype == ttnn.bfloat16
    following = passing(RESULT, [instruction("silu", [0], [4], [0])])
    assert run_golden(following, MESH, {"y": values}, {})["y"].shape == (5, 6)


def test_each_instruction_can_be_observed():
    seen = []
    run_golden(
        PROGRAM, MESH, {"x": X}, weights(), lambda i, op, results: seen.append((i, op.op, len(results[0].pieces)))
    )
    assert seen == [(0, "experimental.minimal_matmul", 4), (1, "all_reduce", 4), (2, "silu", 4)]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (with_instruction(1, free=[2, 3]), r"instruction 2 \(silu.py:1\): silu\(nothing\).* freed already"),
        (with_instruction(2, op="gelu_new"), "instruction 2 .*no op 'gelu_new'"),
        (with_instruction(2, results=[4, 5]), "instruction 2 .*not iterable"),
        (with_instruction(1, attrs={"axis": 0, "speed": 3}), "speed"),
        (with_instruction(1, attrs={}), "instruction 1 .*cluster_axis"),
    ],
)
def test_a_program_that_is_wrong_says_where(program, message):
    with pytest.raises(BackendError, match=message):
        run_golden(program, MESH, {"x": X}, weights())


def test_sources_are_checked():
    with pytest.raises(BackendError, match="expected an input 'x', seen none"):
        run_golden(PROGRAM, MESH, {}, weights())
    with pytest.raises(BackendError, match="weight 'w' is not loaded"):
        run_golden(PROGRAM, MESH, {"x": X}, {})
    with pytest.raises(BackendError, match="input 'x': expected"):
        run_golden(PROGRAM, MESH, {"x": Chips([X] * 4, ttnn.bfloat16)}, weights())


def test_chips_that_do_not_round():
    y = run_golden(PROGRAM, EXACT, {"x": X}, weights(EXACT))["y"]
    torch.testing.assert_close(y, torch.nn.functional.silu(X @ W))


def test_the_first_departure_is_found():
    expected = record(PROGRAM, EXACT, {"x": X}, weights(EXACT))
    assert sorted(expected) == [2, 3, 4]
    assert first_departure(PROGRAM, MESH, {"x": X}, weights(), expected) is None
    sine = with_instruction(2, op="sin")
    found = first_departure(sine, MESH, {"x": X}, weights(), expected)
    assert isinstance(found, Departure) and found.index == 2 and found.instruction.op == "sin" and found.pcc < 0.99


def test_a_result_of_another_shape_departs():
    expected = record(PROGRAM, MESH, {"x": X}, weights())
    wrong = with_instruction(1, op="mesh_partition", attrs={"axis": 0, "dim": 1})
    found = first_departure(wrong, MESH, {"x": X}, weights(), expected)
    assert found is not None and found.index == 1 and found.pcc == 0


def test_pcc():
    x = normal(0, 100)
    assert pcc(x, 3 * x + 1) == pytest.approx(1)
    assert pcc(x, -x) == pytest.approx(-1)
    assert pcc(torch.ones(3), torch.ones(3)) == 1 and pcc(torch.ones(3), torch.zeros(3)) == 0
    assert pcc(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0])) == 0
