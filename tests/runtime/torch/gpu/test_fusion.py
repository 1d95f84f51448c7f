"""Which pairs of instructions become one, and that the program stays what it was: plain kernels run both."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mochi_aot.artifacts.schema import Instruction, Program
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.compiler.compile import compile_program
from mochi_aot.compiler.lower.torch import lower
from mochi_aot.compiler.partition.plans import DECODER_PLANS, TRANSFORMER_PLANS
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.gpu.fusion import FUSED, NORM_ADD, NORM_ROPE, NORM_SILU, SILU_MUL, fuse
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.types import Attrs, Builder, Kernel
from tests.compiler.tiny import programs
from tests.runtime.torch.programs import instruction, normal, program, spec


def both(first: str, second: str) -> Builder:
    """A fused op by the two plain kernels; the first one's result is the second one's operand at its right side."""

    def build(attrs: Attrs) -> Kernel:
        one, two = KERNELS[first](attrs), KERNELS[second]({})
        inputs = {"silu": 1, "rms_norm": 2, "group_norm": 3}[first]
        return lambda *operands: two(one(*operands[:inputs]), *operands[inputs:])

    return build


PLAIN: dict[str, Builder] = {
    **KERNELS,
    SILU_MUL: both("silu", "mul"),
    NORM_ADD: both("rms_norm", "add"),
    NORM_ROPE: both("rms_norm", "rope"),
    NORM_SILU: both("group_norm", "silu"),
}
X, SCALE = spec([2, 3]), spec([3])


def ops(sample: Program) -> list[str]:
    return [item.op for item in sample.instructions]


def sample(*instructions: Instruction, output: int = 4) -> Program:
    """Values 0 and 1 are [2,3], 2 is a scale."""
    return program({"x": X, "z": X, "s": SCALE}, [], {"y": (output, X)}, list(instructions))


def norm(operands: list[int], result: int, free: list[int]) -> Instruction:
    return instruction("rms_norm", operands, [result], free, eps=1e-6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            [instruction("silu", [0], [3], [0]), instruction("mul", [3, 1], [4], [1, 3])],
            [instruction(SILU_MUL, [0, 1], [4], [0, 1])],
        ),
        (
            [instruction("silu", [0], [3], []), instruction("mul", [1, 3], [4], [3])],
            [instruction(SILU_MUL, [0, 1], [4], [])],
        ),
        (
            [norm([0, 2], 3, [2]), instruction("add", [1, 3], [4], [3])],
            [replace(norm([0, 2, 1], 4, [2]), op=NORM_ADD)],
        ),
        ([norm([0], 3, []), instruction("add", [1, 3], [4], [3])], None),  # no scale
        ([norm([0, 2], 3, []), instruction("mul", [1, 3], [4], [3])], None),
        ([norm([0, 2], 3, []), instruction("add", [3, 3], [4], [3])], None),  # read twice
        (
            [
                instruction("silu", [0], [3], []),
                instruction("mul", [3, 1], [4], []),
                instruction("add", [3, 4], [5], []),
            ],
            None,
        ),
    ],
)
def test_pairs(before: list[Instruction], after: list[Instruction] | None) -> None:
    plain = sample(*before, output=before[-1].results[0])
    fused = fuse(plain)
    if after is None:
        assert fused == plain
    else:
        strip = [replace(item, loc="") for item in fused.instructions]
        assert strip == [replace(item, loc="") for item in after]
        assert fused.instructions[-1].loc == before[-1].loc


def test_what_lies_between_is_an_output() -> None:
    plain = sample(instruction("silu", [0], [3], []), instruction("mul", [3, 1], [4], []), output=3)
    assert fuse(plain) == plain


def test_operands_live_until_the_second_one() -> None:
    """The first one frees its operand; with another instruction between them it must not any more."""
    plain = sample(
        instruction("silu", [0], [3], [0]),
        instruction("mul_scalar", [1], [5], [1], value=2.0),
        instruction("mul", [3, 5], [4], [3, 5]),
    )
    fused = fuse(plain)
    assert ops(fused) == ["mul_scalar", SILU_MUL]
    assert fused.instructions[1].free == [0, 5]
    inputs = {"x": [normal(0, 2, 3)], "z": [normal(1, 2, 3)], "s": [torch.ones(3)]}
    made = [TorchExecutable(p, Mesh(1, 1), {}, kernels=PLAIN).run(inputs)["y"][0] for p in (plain, fused)]
    assert torch.equal(*made)


def test_the_denoising_step() -> None:
    """All turned queries and keys, all SwiGLU, and all sums of which one operand is a norm; the same latents."""
    compiled = compile_program(programs()["denoise"], (1, 1), TRANSFORMER_PLANS["sp1tp0"])
    plain = lower(compiled.program, "sp1tp0", compiled.cost)
    fused = fuse(plain)
    check_program(replace(fused, instructions=[_known(item) for item in fused.instructions]), "here")
    count = {op: ops(fused).count(op) for op in FUSED}
    assert count[NORM_ROPE] == ops(plain).count("rope") and "rope" not in ops(fused)
    assert count[SILU_MUL] == ops(plain).count("silu") and "silu" not in ops(fused)
    assert count[NORM_ADD] == ops(plain).count("add") - _unnormed_sums(plain)
    inputs: dict[str, Any] = {}
    for index, item in enumerate(plain.inputs):
        dtype = getattr(torch, item.spec.dtype)
        x = normal(index, *item.spec.shape)
        inputs[item.name] = [
            torch.zeros(1, dtype=dtype) if item.name == "step" else (x > 0 if dtype is torch.bool else x).to(dtype)
        ]
    weights = {
        item.name: [(0.1 * normal(9, *item.local_shape)).to(getattr(torch, item.dtype))] for item in plain.weights
    }
    made = [TorchExecutable(p, Mesh(1, 1), weights, kernels=PLAIN).run(inputs)["latents"][0] for p in (plain, fused)]
    assert torch.equal(*made) and torch.isfinite(made[0]).all()


def test_the_decoder() -> None:
    """Each of its group norms is followed by silu."""
    compiled = compile_program(programs()["decode"], (1, 1), DECODER_PLANS["h0w1"])
    plain = lower(compiled.program, "h0w1", compiled.cost)
    fused = fuse(plain)
    assert ops(fused).count(NORM_SILU) == ops(plain).count("group_norm") > 0
    assert ops(fused).count("silu") == ops(plain).count("silu") - ops(plain).count("group_norm")


def _known(item: Instruction) -> Instruction:
    """An instruction that a bundle may have, of the same values."""
    return replace(item, op="concat", attrs={"dim": 0}) if item.op in FUSED else item


def _unnormed_sums(plain: Program) -> int:
    """Sums of which no operand is a norm."""
    norms = {item.results[0] for item in plain.instructions if item.op == "rms_norm"}
    return sum(item.op == "add" and norms.isdisjoint(item.operands) for item in plain.instructions)
