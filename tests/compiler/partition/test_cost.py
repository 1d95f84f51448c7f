"""Costs counted by hand."""

import pytest

from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.cost import Cost, bytes_sent, cost_of


def cost(body: str, mesh: str = "") -> Cost:
    """Of a program of these lines, whose last value is its output."""
    last = body.strip().splitlines()[-1].split("%")[1].split(",")[0].split(" ")[0]
    program = parse(f'program @p {mesh}{{\n{body}\n  return "y" %{last}\n}}\n')
    verify(program)
    return cost_of(program)


VISUAL = "input %q : f32[1,5,2,4] rate=latent"
TEXT = "input %t : f32[1,3,2,4] rate=latent\ninput %m : bool[1,3] rate=prompt"


@pytest.mark.parametrize(
    ("inputs", "op", "flops"),
    [
        # 2 for a multiply and an add: 15 rows, 4 inputs, 6 outputs
        (
            'input %x : f32[3,5,4] rate=latent\nparam %w : f32[6,4] = checkpoint("w")',
            "%0 = linear(%x, %w) : f32[3,5,6]",
            2 * 15 * 4 * 6,
        ),
        # a batch of 2, 3 x 4 by 4 x 5
        (
            "input %a : f32[2,3,4] rate=latent\ninput %b : f32[4,5] rate=latent",
            "%0 = matmul(%a, %b) : f32[2,3,5]",
            2 * 2 * 3 * 4 * 5,
        ),
        # 2 heads, 5 queries, 7 keys, width 4: scores, and sums of values
        (
            "input %q : f32[1,2,5,4] rate=latent\ninput %k : f32[1,2,7,4] rate=latent",
            "%0 = attention(%q, %k, %k) {scale=0.5, causal=false} : f32[1,2,5,4]",
            2 * (2 * 2 * 5 * 7 * 4),
        ),
        # 5 + 3 queries, 5 + 3 keys, 2 heads of 4
        (
            f"{VISUAL}\n{TEXT}",
            "%0, %1 = joint_attention(%q, %q, %q, %t, %t, %t, %m) {scale=0.5} : f32[1,5,2,4], f32[1,3,2,4]",
            2 * (2 * 8 * 8 * 2 * 4),
        ),
        # 4 x 3 x 2 positions, 5 outputs, 2 inputs, a kernel of 27
        (
            'input %x : f32[1,4,3,2,2] rate=latent\nparam %w : f32[5,2,3,3,3] = checkpoint("w")',
            "%0 = causal_conv3d(%x, %w) {stride=[1, 1, 1], padding=[2, 1, 1, 1, 1]} : f32[1,4,3,2,5]",
            2 * 24 * 5 * 2 * 27,
        ),
        # all else is little
        ("input %x : f32[3,4] rate=latent", "%0 = softmax(%x) {dim=1} : f32[3,4]", 0),
    ],
    ids=["linear", "matmul", "attention", "joint attention", "convolution", "softmax"],
)
def test_flops_on_one_device(inputs: str, op: str, flops: int) -> None:
    assert cost(f"{inputs}\n{op}").flops == flops


def test_a_device_counts_its_own_part() -> None:
    """Weights 6 x 4 and 4 x 6 over two devices; one sum of 3 x 4 numbers, each sent half of it twice."""
    body = """\
input %x : f32[3,4]{R,R} rate=latent
param %up : f32[6,4]{R,S(0:3)} = checkpoint("up")
param %down : bf16[4,6]{R,S(1:3)} = checkpoint("down")
%0 = linear(%x, %up) : f32[3,6]{R,S(1:3)}
%1 = cast(%0) {dtype="bfloat16"} : bf16[3,6]{R,S(1:3)}
%2 = linear(%1, %down) : bf16[3,4]{R,P}
%3 = all_reduce(%2) {axis=1} : bf16[3,4]{R,R}
"""
    assert cost(body, "mesh=1x2 ") == Cost(
        flops=2 * 3 * 4 * 3 + 2 * 3 * 3 * 4,
        weight_bytes=4 * 12 + 2 * 12,
        collective_bytes=2 * 12 * 2 // 2,
        collectives={"all_reduce": 1},
    )


def test_a_ring_has_all_visual_keys_and_the_queries_of_its_device() -> None:
    """Ten tokens in pieces of three over four devices, three of text: (3 + 3) x (10 + 3) scores of 2 heads of 4."""
    visual, text = "f32[1,10,2,4]{R,S(1:3)}", "f32[1,3,2,4]{R,R}"
    body = f"""\
input %q : {visual} rate=latent
input %t : {text} rate=prompt
input %m : bool[1,3]{{R,R}} rate=prompt
%0, %1 = ring_joint_attention(%q, %q, %q, %t, %t, %t, %m) {{scale=0.5, axis=1, size=10, chunk=3}} : {visual}, {text}
"""
    found = cost(body, "mesh=1x4 ")
    assert found.flops == 2 * (2 * 6 * 13 * 2 * 4)
    # Keys and values, 3 x 2 x 4 float32 each, three times passed on.
    assert found.collective_bytes == 3 * 2 * (24 * 4)
    assert found.collectives == {"ring_joint_attention": 1}


@pytest.mark.parametrize(
    ("op", "sent"),
    [
        # what a device holds: 6 x 5 float32, of 24 x 5
        ("%0 = all_gather(%s) {axis=1, dim=0, size=24} : f32[24,5]{R,R}", 3 * 120),
        # 30 bytes for each pair of devices, both ways: three pairs one link apart, two pairs two, one pair three
        (
            "%0 = all_to_all(%s) {axis=1, gather_dim=0, size=24, split_dim=1, chunk=2} : f32[24,5]{R,S(1:2)}",
            2 * (3 * 1 + 2 * 2 + 1 * 3) * 30 // 4,
        ),
        # three rows of 20 bytes cross each of three borders between four devices
        (
            "%0 = halo_exchange(%s) {dim=0, axis=1, before=2, after=1, size=24, chunk=6} : f32[24,5]{R,S(0:9)}",
            3 * 60 // 4,
        ),
        # what a device holds: 24 x 5 float32
        ("%0 = shard(%x) {axis=1, dim=0, chunk=6} : f32[24,5]{R,S(0:6)}", 0),
        ("%0 = exp(%x) : f32[24,5]{R,R}", 0),
    ],
)
def test_bytes_that_a_device_sends(op: str, sent: int) -> None:
    program = parse(
        f"""\
program @p mesh=1x4 {{
  input %x : f32[24,5]{{R,R}} rate=latent
  input %s : f32[24,5]{{R,S(0:6)}} rate=latent
  {op}
  return "y" %0
}}
"""
    )
    verify(program)
    assert bytes_sent(program.ops[0], (1, 4)) == sent
    assert cost_of(program).collective_bytes == sent


def test_sums_send_three_quarters_of_all_for_each_half_of_the_way() -> None:
    text = """\
program @p mesh=1x4 {
  input %x : f32[24,8]{R,S(1:2)} rate=latent
  param %w : f32[5,8]{R,S(1:2)} = checkpoint("w")
  %0 = linear(%x, %w) : f32[24,5]{R,P}
  %1 = all_reduce(%0) {axis=1} : f32[24,5]{R,R}
  %2 = reduce_scatter(%0) {axis=1, dim=0, chunk=6} : f32[24,5]{R,S(0:6)}
  return "1" %1
  return "2" %2
}
"""
    program = parse(text)
    verify(program)
    whole = 24 * 5 * 4
    assert [bytes_sent(op, (1, 4)) for op in program.ops] == [0, 2 * 3 * whole // 4, 3 * whole // 4]


def test_an_axis_of_one_device_sends_nothing() -> None:
    program = parse(
        "program @p mesh=1x4 {\n  input %x : f32[8]{S(0:8),R} rate=latent\n"
        '  %0 = all_gather(%x) {axis=0, dim=0, size=8} : f32[8]{R,R}\n  return "y" %0\n}\n'
    )
    verify(program)
    assert bytes_sent(program.ops[0], (1, 4)) == 0
