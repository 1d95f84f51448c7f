"""The partitioned form of small programs, as text, and that they compute what one device does."""

from pathlib import Path

import pytest

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.types import Shard
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh, parse_mesh
from mochi_aot.compiler.partition.plan import Cut, Plan
from mochi_aot.compiler.partition.spmd import partition
from tests.compiler.golden import Golden, cases
from tests.compiler.numbers import REORDERED, assert_same, inputs, parameter

FOLDER = Path(__file__).parent / "golden"


def plan_of(options: dict[str, str]) -> Plan:
    """`param.<name>=axis:dim,...`, `value.<name>=axis:dim:multiple,...` and `cut_outputs=<name>`."""

    def cut(text: str) -> Cut:
        axis, dim, multiple = [*map(int, text.split(":")), 1][:3]
        return Cut(axis, dim, multiple)

    def cuts(prefix: str) -> dict[str, tuple[Cut, ...]]:
        return {
            name.removeprefix(prefix): tuple(map(cut, filter(None, text.split(","))))
            for name, text in options.items()
            if name.startswith(prefix)
        }

    return Plan(
        name="golden",
        params=tuple((name, cut) for name, all in cuts("param.").items() for cut in all),
        values=cuts("value."),
        cut_outputs=frozenset(options.get("cut_outputs", "").split()),
    )


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    mesh = parse_mesh(golden.options["mesh"])
    verify(golden.source)
    program = partition(golden.source, mesh, plan_of(golden.options))
    verify(program)
    golden.check({"partition": program})
    arrays = inputs(golden.source)
    actual = run(program, arrays, parameter, poison=7.0)
    assert_same(actual, run(golden.source, arrays, parameter), REORDERED)


@cases(FOLDER)
def test_the_input_is_left_alone(golden: Golden) -> None:
    before = to_text(golden.source)
    partition(golden.source, parse_mesh(golden.options["mesh"]), plan_of(golden.options))
    assert to_text(golden.source) == before


def refused(text: str, mesh: Mesh, plan: Plan) -> str:
    """Why a plan cannot place a program."""
    program = parse(text)
    verify(program)
    with pytest.raises(PlanError) as error:
        partition(program, mesh, plan)
    return str(error.value)


HEADS = """\
program @denoise {
  input %x : f32[1,5,8] rate=latent
  param %q : f32[144,8] = checkpoint("attn.q_x.weight")
  %0 = linear(%x, %q) : f32[1,5,144]
  %1 = reshape(%0) {shape=[1, 5, 6, 24]} : f32[1,5,6,24]  loc "reference/dit.py:108"
  return "y" %1
}
"""


def test_heads_that_do_not_divide() -> None:
    assert refused(HEADS, (1, 4), Plan("tp1", (("*.q_x.weight", Cut(1, 0)),))) == (
        "plan tp1, program denoise, reference/dit.py:108: 144 splits into 6 x 24, but pieces of 36 are not whole rows "
        "of 24: 6 does not divide by the devices that share it"
    )


def test_heads_that_divide_are_not_refused() -> None:
    program = partition(parse(HEADS), (1, 3), Plan("tp1", (("*.q_x.weight", Cut(1, 0)),)))
    assert program.ops[1].result.type.local_shape == (1, 5, 2, 24)


def test_rows_of_a_weight_that_do_not_divide() -> None:
    assert refused(HEADS, (5, 1), Plan("tp0", (("*.q_x.weight", Cut(0, 0)),))) == (
        "plan tp0: dimension 0 of attn.q_x.weight [144, 8] leaves 144, which does not divide by the 5 devices of mesh "
        "axis 0"
    )


VIDEO = """\
program @decode {
  input %x : f32[1,4,6,6,2] rate=latent
  param %w : f32[2,2,3,3,3] = checkpoint("w")
  %0 = annotate(%x) {name="video"} : f32[1,4,6,6,2]
  %1 = causal_conv3d(%0, %w) {stride=[1, 1, 1], padding=[2, 1, 1, 1, 1]} : f32[1,4,6,6,2]  loc "reference/vae.py:35"
  return "y" %1
}
"""


def video_plan(*cuts: Cut) -> Plan:
    return Plan("video", values={"video": cuts})


def test_a_piece_that_is_shorter_than_its_halo() -> None:
    assert refused(VIDEO, (4, 1), video_plan(Cut(0, 1))) == (
        "plan video, program decode, reference/vae.py:35: a piece of 1 along time is shorter than the halo of 2; "
        "cut it less often"
    )


def test_a_dimension_of_the_video_that_both_axes_cut() -> None:
    assert refused(VIDEO, (2, 2), video_plan(Cut(0, 2), Cut(1, 2))) == (
        "plan video, program decode, reference/vae.py:35: the height is cut along both mesh axes; a halo goes along one"
    )


def test_pieces_that_a_stride_does_not_divide() -> None:
    text = VIDEO.replace("stride=[1, 1, 1]", "stride=[1, 1, 2]").replace("6,2]  loc", "3,2]  loc")
    assert refused(text, (1, 2), video_plan(Cut(1, 3))) == (
        "plan video, program decode, reference/vae.py:35: pieces of 3 along width do not divide by the stride 2"
    )


BOTH_AXES = Plan("sp01", values={"tokens": (Cut(0, 1), Cut(1, 1))})
ATTENTION = """\
program @denoise {
  input %x : f32[1,8,2,4] rate=latent
  input %t : f32[1,3,2,4] rate=prompt
  input %mask : bool[1,3] rate=prompt
  %0 = annotate(%x) {name="tokens"} : f32[1,8,2,4]
  %1, %2 = joint_attention(%0, %0, %0, %t, %t, %t, %mask) {scale=0.5} : f32[1,8,2,4], f32[1,3,2,4]
  return "y" %1
}
"""


def test_tokens_that_both_axes_cut_become_heads_along_the_minor_one() -> None:
    program = partition(parse(ATTENTION), (4, 2), BOTH_AXES)
    verify(program)
    (ring,) = (op for op in program.ops if op.opcode == "ring_joint_attention")
    assert ring.attrs["axis"] == 0 and ring.attrs["chunk"] == 2
    assert [value.type.local_shape for value in (*ring.operands[:4:3], *ring.results)] == [
        (1, 2, 1, 4),
        (1, 3, 1, 4),
        (1, 2, 1, 4),
        (1, 3, 1, 4),
    ]
    swaps = [op.attrs for op in program.ops if op.opcode == "all_to_all"]
    assert [(s["axis"], s["gather_dim"], s["split_dim"]) for s in swaps] == [(1, 1, 2), (1, 2, 1)]


def test_heads_that_tokens_of_both_axes_cannot_become() -> None:
    assert refused(ATTENTION, (2, 4), BOTH_AXES) == (
        "plan sp01, program denoise: 2 heads do not divide by the 4 devices of mesh axis 1"
    )


def test_a_parameter_that_is_cut_in_two_ways_is_written_in_two_ways() -> None:
    text = """\
program @p {
  input %x : f32[4,4] rate=latent
  param %w : f32[4,4] = checkpoint("w")
  %0 = annotate(%x) {name="rows"} : f32[4,4]
  %1 = add(%0, %w) : f32[4,4]
  %2 = annotate(%1) {name="columns"} : f32[4,4]
  %3 = add(%2, %w) : f32[4,4]
  return "y" %3
}
"""
    plan = Plan("p", values={"rows": (Cut(1, 0),), "columns": (Cut(1, 1),)})
    program = partition(parse(text), (1, 2), plan)
    verify(program)
    assert [param.value.type.placements[1] for param in program.params] == [Shard(0, 2), Shard(1, 2)]
    assert {param.recipe for param in program.params} == {Checkpoint("w")}
    assert [op.opcode for op in program.ops] == ["shard", "add", "all_to_all", "add", "all_gather"]
