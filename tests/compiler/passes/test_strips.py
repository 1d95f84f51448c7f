"""in_strips: the same frames whatever the strips' length, one strip after the other, and ops that it refuses."""

import numpy as np
import pytest

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Param, Program, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.strips import in_strips
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler import tiny

GEOMETRY = Geometry(16, 16, 25)  # 5 latent frames of 2 x 2


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 9])
def test_frames_are_the_same(frames: int) -> None:
    """Not one bit differs: every frame is computed from the same numbers in the same order."""
    program = tiny.programs(GEOMETRY)["decode"]
    strips = in_strips(program, "latent_video", frames)
    verify(strips)
    arrays = tiny.inputs(program)
    assert np.array_equal(run(strips, arrays, tiny.parameter)["frames"], run(program, arrays, tiny.parameter)["frames"])


@pytest.mark.parametrize("frames", [1, 2, 4, 5])
def test_what_is_not_finite_is_counted_over_all_strips(frames: int) -> None:
    """With one channel of the output's bias infinite, one element of three is: 25 frames of 16 x 16 pixels."""
    strips = in_strips(tiny.programs(GEOMETRY)["decode"], "latent_video", frames)
    arrays = tiny.inputs(strips)

    def spoilt(param: Param) -> np.ndarray:
        array = tiny.parameter(param).copy()
        if param.recipe == Checkpoint("decoder.proj_out.bias"):
            array[1] = np.inf
        return array

    assert run(strips, arrays, tiny.parameter)["nonfinite"] == np.zeros((1, 1))
    assert run(strips, arrays, spoilt)["nonfinite"] == np.full((1, 1), 25 * 16 * 16)


def test_a_strip_is_finished_before_the_next_begins() -> None:
    program = tiny.programs(GEOMETRY)["decode"]
    ops = in_strips(program, "latent_video", 2).ops
    ends = [i for i, op in enumerate(ops) if op.opcode == "cast" and op.result.type.dtype == "uint8"]
    starts = [i for i, op in enumerate(ops) if op.opcode == "slice" and op.loc == "strips"]
    assert len(starts) == len(ends) == 3
    assert starts[0] < ends[0] < starts[1] < ends[1] < starts[2] < ends[2]


def test_a_slice_leaves_nothing_of_the_first_strips() -> None:
    builder, video = _video()
    builder.output("y", builder.emit("slice", [video], {"dim": 1, "start": 3, "stop": 5}))
    strips = in_strips(builder.program, "video", 2)
    verify(strips)
    x = np.arange(6 * 4, dtype=np.float32).reshape(1, 6, 1, 1, 4)
    (y,) = run(strips, {"x": x}, tiny.parameter).values()
    assert np.array_equal(y, x[:, 3:5])


def test_unknown_name() -> None:
    builder, video = _video()
    builder.output("y", video)
    with pytest.raises(IRError, match="@decode: no value is annotated as 'audio'"):
        in_strips(builder.program, "audio", 2)


def test_an_op_that_joins_frames() -> None:
    builder, video = _video()
    builder.output("y", builder.emit("mean", [video], {"dims": [1], "keepdim": True}, "here"))
    with pytest.raises(IRError, match="mean at here has no rule for strips of time"):
        in_strips(builder.program, "video", 2)


def test_a_reshape_that_mixes_time_with_what_precedes_it() -> None:
    builder = Builder("decode")
    x = builder.input("x", TensorType((2, 6, 1, 1, 4), "float32"), "latent")
    video = builder.emit("annotate", [x], {"name": "video"})
    builder.output("y", builder.emit("reshape", [video], {"shape": [12, 4]}, "here"))
    with pytest.raises(IRError, match="reshape at here mixes time with what precedes it"):
        in_strips(builder.program, "video", 2)


def test_a_stride_in_time() -> None:
    builder, video = _video()
    weight = builder.param("w", TensorType((4, 4, 2, 1, 1), "float32"), Checkpoint("w"))
    attrs = {"stride": [2, 1, 1], "padding": [0, 0, 0, 0, 0]}
    builder.output("y", builder.emit("causal_conv3d", [video, weight], attrs, "here"))
    with pytest.raises(IRError, match="here has a stride in time"):
        in_strips(builder.program, "video", 2)


def _video() -> tuple[Builder, Value]:
    builder = Builder("decode")
    x = builder.input("x", TensorType((1, 6, 1, 1, 4), "float32"), "latent")
    return builder, builder.emit("annotate", [x], {"name": "video"})


def test_what_does_not_depend_on_the_video_is_made_once() -> None:
    builder, video = _video()
    one = builder.input("one", TensorType((4,), "float32"), "geometry")
    two = builder.emit("add", [one, one])
    builder.output("y", builder.emit("mul", [video, two]))
    builder.output("two", two)
    strips: Program = in_strips(builder.program, "video", 2)
    verify(strips)
    assert [op.opcode for op in strips.ops].count("add") == 1
    x, one_array = np.ones((1, 6, 1, 1, 4), np.float32), np.ones(4, np.float32)
    outputs = run(strips, {"x": x, "one": one_array}, tiny.parameter)
    assert np.array_equal(outputs["y"], 2 * x) and np.array_equal(outputs["two"], 2 * one_array)
