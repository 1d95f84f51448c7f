"""How long the decoder's strips are, and when there are none."""

import pytest

from mochi_aot.compiler.lower import torch as torch_target
from mochi_aot.compiler.lower.fit import decoder_in_strips, strip_frames
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.partition.plans import DECODER_PLANS
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler import tiny

GEOMETRY = Geometry(32, 32, 37)  # 7 latent frames of 4 x 4
# Bytes that one becomes in the last stage, 6 frames of 32 x 32 with 4 channels; the first one becomes one frame.
LATENT_FRAME = 6 * 32 * 32 * 4 * 4


def _decoder(geometry=GEOMETRY):
    return tiny.programs(geometry)["decode"]


@pytest.mark.parametrize(
    ("most", "frames"),
    [(0.5, 1), (1, 1), (2, 2), (3.9, 3), (4, 4), (5, 4), (6, 4), (7, 7), (100, 7)],  # 4 and 3 are better than 5 and 2
)
def test_strips_are_as_equal_as_can_be(most: float, frames: int) -> None:
    program = partition(_decoder(), (1, 1), DECODER_PLANS["h0w1"])
    assert strip_frames(program, int(most * LATENT_FRAME)) == frames


def test_what_a_chip_holds_counts() -> None:
    """Half of each frame, and the halo of one row on both sides: 18 of 32 rows."""
    program = partition(_decoder(), (2, 1), DECODER_PLANS["h0w1"])
    assert strip_frames(program, 2 * LATENT_FRAME * 18 // 32) == 2


def test_a_plan_that_cuts_time_has_no_strips() -> None:
    program = _decoder()
    assert decoder_in_strips(program, (1, 2), DECODER_PLANS["h0t1"], LATENT_FRAME) is program
    assert decoder_in_strips(program, (2, 1), DECODER_PLANS["h0t1"], LATENT_FRAME) is not program


def test_one_strip_is_no_strip() -> None:
    program = _decoder()
    assert decoder_in_strips(program, (1, 1), DECODER_PLANS["h0w1"], 640 << 20) is program


def test_a_video_of_one_frame_is_one_strip() -> None:
    program = _decoder(Geometry(32, 32, 1))
    assert decoder_in_strips(program, (1, 1), DECODER_PLANS["h0w1"], 1) is program


@pytest.mark.parametrize("mesh", [(1, 1), (2, 2)])
def test_the_torch_target_works_in_strips_where_values_are_large(
    monkeypatch: pytest.MonkeyPatch, mesh: tuple[int, int]
) -> None:
    """A device's largest value then has at most the bytes of a strip, and of the frames that convolutions look back
    to."""
    target, program, plan = TorchTarget(), _decoder(), DECODER_PLANS["h0w1"]
    assert target.fitted(program, mesh, plan) is program
    whole = max(value.type.local_nbytes for value in partition(program, mesh, plan).values())
    monkeypatch.setattr(torch_target, "STRIP_BYTES", whole // 7)
    strips = partition(target.fitted(program, mesh, plan), mesh, plan)
    largest = max(value.type.local_nbytes for op in strips.ops for value in op.results if "frames" not in value.name)
    assert largest <= whole // 2
    assert len(strips.ops) > 3 * len(program.ops)
