"""How the mesh is opened: what is set apart for a recorded program, by its number of ops."""

from dataclasses import replace

import pytest

from mochi_aot.artifacts.schema import Instruction, Program, ProgramInput, ProgramOutput, ProgramStats, TensorSpec
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings, trace_bytes

MIB = 1 << 20
SPEC = TensorSpec("float32", [1], [1], [None, None])


def program(ops: int, output: str = "latents") -> Program:
    """A step of so many ops; it feeds itself if its output is called as its input is."""
    return Program(
        name="denoise",
        mesh=[2, 4],
        plan="sp1tp0",
        inputs=[ProgramInput("latents", 0, SPEC, "latent")],
        weights=[],
        outputs=[ProgramOutput(output, ops, SPEC)],
        instructions=[Instruction("add", [i, i], [i + 1], {}, [], "step.py:1") for i in range(ops)],
        stats=ProgramStats(0, 0, 0, {}),
    )


@pytest.mark.parametrize(
    ("ops", "size"),
    [
        (1, 64 * MIB),
        (1290, 64 * MIB),  # 1290 * 13,000 * 4 = 67,080,000 of 67,108,864 bytes
        (1291, 128 * MIB),
        (3501, 192 * MIB),
        (4958, 256 * MIB),  # the full step on 2x4 and 4x8
    ],
)
def test_four_times_13_kb_an_op_in_steps_of_64_mib(ops: int, size: int) -> None:
    assert trace_bytes([program(ops)]) == size == mesh_settings((2, 4), [program(ops)]).trace_bytes


def test_the_largest_counts_and_only_what_feeds_itself() -> None:
    """One program is recorded at a time; a text encoder runs once, and is not recorded."""
    assert trace_bytes([program(3501), program(100)]) == 192 * MIB
    assert trace_bytes([program(100), program(3501, output="embeds")]) == 64 * MIB
    assert trace_bytes([program(3501, output="embeds")]) == trace_bytes([]) == 0


def test_one_chip_has_no_fabric() -> None:
    assert mesh_settings((1, 1)) == replace(mesh_settings((1, 2)), fabric="none")
    assert mesh_settings((1, 2)).fabric == "1d"
