"""The reference's composite ops stay whole and compute what their torch definitions do."""

import pytest
import torch
from torch import Tensor

from mochi_aot.compiler.reference import ops
from tests.compiler.trace.traced import check, interpret, numpy, opcodes, traced

GENERATOR = torch.Generator().manual_seed(0)
# Products of some hundred terms, summed in another order: a few units in the last place of float32.
SUMMED = 4e-6


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def test_annotate() -> None:
    program = check(lambda x: ops.annotate(x, "tokens"), randn(2, 3))
    assert [(op.opcode, op.attrs) for op in program.ops] == [("annotate", {"name": "tokens"})]


def test_rms_norm() -> None:
    assert opcodes(check(lambda x: ops.rms_norm(x, None, 1e-5), randn(2, 3, 8))) == ["rms_norm"]
    check(lambda x, scale: ops.rms_norm(x, scale, 1e-5), randn(2, 3, 8), randn(8))
    check(lambda x, scale: ops.rms_norm(x, scale, 1e-5), randn(2, 3, 8), randn(2, 1, 8))
    # bfloat16 in and out, float32 inside: results are the same number or its neighbour.
    check(lambda x: ops.rms_norm(x, None, 1e-5), randn(2, 3, 8).bfloat16(), tolerance=2.0**-7)


def test_rope() -> None:
    angles = randn(3, 2, 4)
    program = check(ops.rope, randn(2, 3, 2, 8), torch.cos(angles), torch.sin(angles))
    assert opcodes(program) == ["rope"]
    check(lambda x, cos, sin: ops.rope(x, sin=sin, cos=cos), randn(2, 3, 2, 8), torch.cos(angles), torch.sin(angles))


@pytest.mark.parametrize("which", [0, 1], ids=["visual", "text"])
def test_joint_attention(which: int) -> None:
    mask = torch.tensor([[True, True, False], [False, False, False]])
    tensors = (*(randn(2, 5, 2, 4) for _ in range(3)), *(randn(2, 3, 2, 4) for _ in range(3)), mask)
    program = check(lambda *x: ops.joint_attention(*x, 0.5)[which], *tensors)
    assert [(op.opcode, op.attrs) for op in program.ops] == [("joint_attention", {"scale": 0.5})]


def test_joint_attention_gives_both_results() -> None:
    def both(*x: Tensor) -> Tensor:
        visual, text = ops.joint_attention(*x, 0.5)
        return torch.cat([visual, text], dim=1)

    mask = torch.ones(1, 3, dtype=torch.bool)
    check(both, *(randn(1, 5, 2, 4) for _ in range(3)), *(randn(1, 3, 2, 4) for _ in range(3)), mask)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), [1, 1, 1], [2, 1, 1, 1, 1]),
        ((3, 2, 2), [3, 2, 2], [2, 0, 0, 0, 0]),
        ((1, 1, 1), [1, 1, 1], [0, 0, 0, 0, 0]),
        ((2, 5, 1), [1, 1, 1], [1, 2, 2, 0, 0]),
    ],
    ids=str,
)
def test_causal_conv3d(kernel: tuple[int, int, int], stride: list[int], padding: list[int]) -> None:
    x, weight, bias = randn(2, 7, 6, 4, 3), randn(5, 3, *kernel), randn(5)
    program = check(lambda x, w, b: ops.causal_conv3d(x, w, b, stride), x, weight, bias, tolerance=SUMMED)
    assert [(op.opcode, op.attrs) for op in program.ops] == [("causal_conv3d", {"stride": stride, "padding": padding})]
    check(lambda x, w: ops.causal_conv3d(x, w, None, stride), x, weight, tolerance=SUMMED)


def test_group_norm() -> None:
    x, weight, bias = randn(2, 3, 4, 5, 6), randn(6), randn(6)
    program = check(lambda x, w, b: ops.group_norm(x, w, b, 3, 1e-5), x, weight, bias, tolerance=SUMMED)
    assert [(op.opcode, op.attrs) for op in program.ops] == [("group_norm", {"groups": 3, "eps": 1e-5})]


def test_in_bfloat16_a_result_is_rounded_once() -> None:
    x, weight = randn(1, 3, 4, 4, 2).bfloat16(), randn(3, 2, 3, 3, 3).bfloat16()

    def convolve(x: Tensor, w: Tensor) -> Tensor:
        return ops.causal_conv3d(x, w, None, [1, 1, 1])

    actual = interpret(traced(convolve, x, weight), x, weight)
    exact = numpy(convolve(x.float(), weight.float()))
    assert (abs(actual - exact) <= 2.0**-8 * abs(exact) + 1e-6).all()  # half a unit in the last of 8 bits
