"""Collectives whose attributes and placements disagree, one line each."""

import pytest

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.verify import verify

# Values in the placements that collectives meet; %n is cut by both axes, %p is a sum over axis 1.
PROGRAM = """\
program @p mesh=2x4 {{
  input %r : f32[6,10]{{R,R}} rate=latent
  input %c : f32[6,10]{{R,S(1:3)}} rate=latent
  input %n : f32[6,10]{{S(1:6),S(1:2)}} rate=latent
  input %s : f32[6,10]{{S(1:6),R}} rate=latent
  %p = linear(%c, %c) : f32[6,6]{{R,P}}
  {line}
  return "y" %r
}}
"""
GOOD = [
    "%y = shard(%r) {dim=1, axis=1, chunk=3} : f32[6,10]{R,S(1:3)}",
    "%y = shard(%s) {dim=0, axis=1, chunk=2} : f32[6,10]{S(1:6),S(0:2)}",
    "%y = shard(%s) {dim=1, axis=1, chunk=2} : f32[6,10]{S(1:6),S(1:2)}",
    "%y = all_gather(%c) {dim=1, axis=1, size=10} : f32[6,10]{R,R}",
    "%y = all_gather(%n) {dim=1, axis=1, size=6} : f32[6,10]{S(1:6),R}",
    "%y = all_reduce(%p) {axis=1} : f32[6,6]{R,R}",
    "%y = reduce_scatter(%p) {dim=0, axis=1, chunk=2} : f32[6,6]{R,S(0:2)}",
    "%y = all_to_all(%c) {axis=1, gather_dim=1, size=10, split_dim=0, chunk=2} : f32[6,10]{R,S(0:2)}",
    "%y = halo_exchange(%c) {dim=1, axis=1, before=1, after=2, size=10, chunk=3} : f32[6,24]{R,S(1:6)}",
]
BAD = [
    ("%y = shard(%r) {dim=1, axis=2, chunk=3} : f32[6,10]{R,S(1:3)}", "axis 2 of a mesh of two"),
    ("%y = shard(%r) {dim=1, chunk=3} : f32[6,10]{R,S(1:3)}", "axis"),
    ("%y = shard(%r) {dim=1, axis=0, chunk=3} : f32[6,10]{R,S(1:3)}", "is not .*Shard.* on axis 0"),
    ("%y = shard(%c) {dim=1, axis=1, chunk=3} : f32[6,10]{R,S(1:3)}", "operand .* is not Replicate.* on axis 1"),
    ("%y = shard(%c) {dim=1, axis=0, chunk=6} : f32[6,10]{S(1:6),R}", "placement on axis 1 changes"),
    ("%y = shard(%c) {dim=1, axis=0, chunk=3} : f32[6,10]{S(1:12),S(1:3)}", "is not .*Shard.* on axis 0"),
    ("%y = shard(%r) {dim=1, axis=1, chunk=3} : f32[6,9]{R,S(1:3)}", "the global shape changes"),
    ("%y = all_gather(%r) {dim=1, axis=1, size=10} : f32[6,10]{R,R}", "is not sharded on dim 1 by axis 1"),
    ("%y = all_gather(%c) {dim=0, axis=1, size=6} : f32[6,10]{R,S(1:3)}", "is not sharded on dim 0 by axis 1"),
    ("%y = all_gather(%c) {dim=1, axis=1, size=12} : f32[6,12]{R,R}", "size is 12, but .* make 10"),
    ("%y = all_gather(%c) {dim=1, axis=1, size=13} : f32[6,13]{R,R}", "size 13 of pieces of 3"),
    ("%y = all_gather(%n) {dim=1, axis=0, size=4} : f32[6,4]{R,R}", "axis 0 does not cut dim 1 .* last"),
    ("%y = all_reduce(%r) {axis=1} : f32[6,10]{R,R}", "operand .* is not Partial.* on axis 1"),
    ("%y = all_reduce(%p) {axis=1} : f32[6,6]{R,P}", "result .* is not Replicate.* on axis 1"),
    ("%y = all_reduce(%p) {axis=0} : f32[6,6]{R,P}", "operand .* is not Partial.* on axis 0"),
    ("%y = reduce_scatter(%r) {dim=0, axis=1, chunk=2} : f32[6,10]{R,S(0:2)}", "operand .* is not Partial"),
    (
        "%y = all_to_all(%c) {axis=1, gather_dim=1, size=10, split_dim=1, chunk=3} : f32[6,10]{R,S(1:3)}",
        "gathers and splits dim 1",
    ),
    ("%y = all_to_all(%c) {axis=1, gather_dim=1, size=12, split_dim=0, chunk=2} : f32[6,12]{R,S(0:2)}", "size is 12"),
    (
        "%y = halo_exchange(%c) {dim=1, axis=1, before=-1, after=2, size=10, chunk=3} : f32[6,16]{R,S(1:4)}",
        "before is -1",
    ),
    ("%y = halo_exchange(%c) {dim=1, axis=1, before=1, after=2, size=12, chunk=3} : f32[6,24]{R,S(1:6)}", "size is 12"),
    (
        "%y = halo_exchange(%n) {dim=1, axis=1, before=1, after=1, size=6, chunk=2} : f32[6,10]{S(1:8),S(1:4)}",
        "both axes cut dim 1",
    ),
    (
        "%y = halo_exchange(%c) {dim=1, axis=1, before=1, after=2, size=10, chunk=4} : f32[6,28]{R,S(1:7)}",
        "chunk 4 of a local extent 3",
    ),
]


@pytest.mark.parametrize("line", GOOD)
def test_good_collectives_pass(line: str) -> None:
    verify(parse(PROGRAM.format(line=line)))


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_collectives_are_named(line: str, message: str) -> None:
    with pytest.raises(IRError, match=message) as raised:
        verify(parse(PROGRAM.format(line=line)))
    assert str(raised.value).endswith(f"\n  {line}")


RING = """\
program @p mesh=2x4 {
  input %q : f32[1,10,4,2]{S(2:2),S(1:3)} rate=latent
  input %k : f32[1,10,4,2]{S(2:2),S(1:3)} rate=latent
  input %t : f32[1,5,4,2]{S(2:2),R} rate=latent
  input %m : bool[1,5]{R,R} rate=latent
  %y, %z = ring_joint_attention(%q, %k, %k, %t, %t, %t, %m) {scale=0.5, axis=1, size=10, chunk=3} \
: f32[1,10,4,2]{S(2:2),S(1:3)}, f32[1,5,4,2]{S(2:2),R}
  return "y" %y
}
"""


def test_a_good_ring_passes() -> None:
    verify(parse(RING))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size=10", "size=12", "size is 12, but .* make 10"),
        ("axis=1, size=10, chunk=3", "axis=0, size=10, chunk=3", "operand .* on axis 0"),
        ("input %k : f32[1,10,", "input %k : f32[1,12,", "q, k and v differ"),
        ("input %m : bool[1,5]{R,R}", "input %m : bool[1,20]{R,S(1:5)}", "mask .* is not Replicate.* on axis 1"),
        ("input %t : f32[1,5,4,2]{S(2:2),R}", "input %t : f32[1,20,4,2]{S(2:2),S(1:5)}", "text operand .* on axis 1"),
        (
            ": f32[1,10,4,2]{S(2:2),S(1:3)}, ",
            ": f32[1,9,4,2]{S(2:2),S(1:3)}, ",
            "results are not typed as q and q_text",
        ),
    ],
)
def test_bad_rings_are_named(old: str, new: str, message: str) -> None:
    assert old in RING
    with pytest.raises(IRError, match=message):
        verify(parse(RING.replace(old, new)))


def test_a_ring_has_one_axis() -> None:
    text = RING.replace("f32[1,10,4,2]{S(2:2),S(1:3)}", "f32[1,10,4,2]{S(1:6),S(1:2)}").replace("S(2:2)", "R")
    with pytest.raises(IRError, match="both axes cut dim 1"):
        verify(parse(text.replace("chunk=3", "chunk=2")))


STATS = """\
program @p mesh=2x4 {{
  input %x : f32[1,2,7,5,4]{{S(2:4),S(3:2)}} rate=latent
  %y = group_norm_stats(%x) {{groups=2, valid={valid}}} : f32[2,4,1,2,2,3]{{S(0:1),S(1:1)}}
  return "y" %y
}}
"""


def test_statistics_list_padded_dimensions() -> None:
    verify(parse(STATS.format(valid="[[2, 0, 4, 7], [3, 1, 2, 5]]")))


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ("[[2, 0, 4, 7]]", r"valid lacks \[3, 1, 2, 5\]"),
        ("[[2, 0, 4, 8], [3, 1, 2, 5]]", r"valid has \[2, 0, 4, 8\], but the operand is"),
        ("[[2, 1, 4, 7], [3, 1, 2, 5]]", r"valid has \[2, 1, 4, 7\], but the operand is"),
        ("null", "valid is None, not a list"),
    ],
)
def test_statistics_that_miss_padding(valid: str, message: str) -> None:
    with pytest.raises(IRError, match=message):
        verify(parse(STATS.format(valid=valid)))


def test_statistics_need_no_entry_for_what_divides() -> None:
    verify(parse(STATS.format(valid="[]").replace("1,2,7,5,4", "1,2,8,8,4")))
