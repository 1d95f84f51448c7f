"""DRAM peaks of lowered programs: by hand, and against what ttnn's allocators give out on a mocked mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mochi_aot.artifacts import schema
from mochi_aot.compiler.lower.ttnn.chip_constants import LOUDBOX
from mochi_aot.compiler.lower.ttnn.held import allocated, peak_bytes
from mochi_aot.compiler.lower.ttnn.lowerer import Tensor
from mochi_aot.compiler.partition.plans import ENCODER_PLANS

ROOT = Path(__file__).parents[4]
BANKS, TILE = 12, 2048  # of a Wormhole chip; bytes of a tile of bfloat16
ROW = BANKS * TILE  # what a tensor of up to 12 tiles takes
# What the model leaves out is small beside a real model's programs, and 3.7 % of these: tables that an earlier program
# has made and a later one reads.
TOLERANCE = 0.05


@pytest.mark.parametrize(
    ("tensor", "pages"),
    [
        (Tensor(0, (1, 32, 32), "bfloat16"), 1 * TILE),
        (Tensor(0, (1, 13 * 32, 32), "bfloat16"), 2 * TILE),  # 13 tiles: one bank has two
        (Tensor(0, (33, 33), "float32"), 1 * 2 * TILE),  # 4 tiles
        (Tensor(0, (32, 32), "bfloat8_b"), 1088),
        (Tensor(0, (13, 20), "bfloat16", "row_major"), 2 * 64),  # rows of 40 bytes, in units of 32
    ],
    ids=str,
)
def test_pages_are_dealt_out_to_the_banks(tensor: Tensor, pages: int) -> None:
    assert allocated(tensor, LOUDBOX) == BANKS * pages


def instruction(
    op: str, operands: list[int], results: list[int], free: list[int], **attrs: object
) -> schema.Instruction:
    return schema.Instruction(op, operands, results, dict(attrs), free, "")  # type: ignore[arg-type]


def program(instructions: list[schema.Instruction]) -> schema.Program:
    """Of an input 0 and a weight 1."""
    spec = schema.TensorSpec("bfloat16", [32, 32], [32, 32], [None, None])
    return schema.Program(
        name="denoise",
        mesh=[1, 2],
        plan="p",
        inputs=[schema.ProgramInput("x", 0, spec, "latent")],
        weights=[schema.ProgramWeight("w", 1, "bfloat16", [32, 32])],
        outputs=[],
        instructions=instructions,
        stats=schema.ProgramStats(0, 0, 0, {}),
    )


def tiles(count: int, shape: tuple[int, ...] = (32, 32)) -> list[Tensor]:
    return [Tensor(number, shape, "bfloat16") for number in range(count)]


def test_inputs_and_weights_stay_and_other_values_live_until_they_are_freed() -> None:
    """Input, weight and two values at the third instruction, though five values were made."""
    made = program(
        [
            instruction("add", [0, 1], [2], [0]),
            instruction("silu", [2], [3], [2]),
            instruction("silu", [3], [4], [3]),
            instruction("silu", [4], [5], [4]),
        ]
    )
    assert peak_bytes(made, tiles(6), LOUDBOX) == 4 * ROW


def test_a_reshape_that_moves_nothing_shares_its_operands_buffer() -> None:
    """The buffer lives until both are freed."""
    tensors = [*tiles(3), Tensor(3, (1, 32, 32), "bfloat16"), *[Tensor(n, (32, 32), "bfloat16") for n in (4, 5)]]
    made = program(
        [
            instruction("silu", [0], [2], []),
            instruction("reshape", [2], [3], [2]),
            instruction("silu", [0], [4], []),
            instruction("silu", [3], [5], [3]),
        ]
    )
    assert peak_bytes(made, tensors, LOUDBOX) == 5 * ROW  # input, weight, 2 with 3, 4, 5


def test_a_rings_buffers_are_there_all_the_time_in_two_sets() -> None:
    """Keys and values, of the video and of the text."""
    attrs = {"buffer": [1, 1, 64, 32], "text_buffer": [1, 1, 32, 32], "dtype": "bfloat16"}
    made = program([instruction("transformer.ring_joint_scaled_dot_product_attention", [0], [2], [], **attrs)])
    assert peak_bytes(made, tiles(3), LOUDBOX) == (3 + 2 * 2 * 2) * ROW


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "plans", "dtype"),
    [
        ((2, 4), "gp0sp1fs0,tp01,w0h1", "bfloat16"),
        ((2, 2), "gp1sp0,tp0,h0w1", "bfloat8_b"),
        ((2, 4), "sp1tp0,tp1,t0h1", "bfloat16"),
    ],
    ids=str,
)
def test_they_are_what_the_allocators_give_out(mesh: tuple[int, int], plans: str, dtype: str) -> None:
    command = [sys.executable, "-m", "tests.compiler.lower.ttnn.peaks_on_mock", *map(str, mesh), plans, dtype]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("peaks: ")]
    assert lines, done.stderr
    peaks = json.loads(lines[0].removeprefix("peaks: "))
    encoders = ["encode"] if plans.rpartition(",")[2] in ENCODER_PLANS else []  # of which there are fewer plans
    assert set(peaks) == {"encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode", *encoders}
    for role, (measured, modelled, refusal) in peaks.items():
        assert refusal is None, (role, refusal)
        assert modelled == pytest.approx(measured, rel=TOLERANCE), role
