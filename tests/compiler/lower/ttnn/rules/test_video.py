"""The decoder of a small model, lowered by every kind of plan: its frames, and what its instructions are."""

from functools import cache

import numpy as np
import pytest
import torch

from mochi_aot.artifacts.schema import Placement
from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.presets import TINY
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Param, Program
from mochi_aot.compiler.lower.ttnn.lowerer import LoweringError
from mochi_aot.compiler.lower.ttnn.program import Lowered
from mochi_aot.compiler.partition.plans import DECODER_PLANS
from mochi_aot.compiler.passes.strips import in_strips
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler.lower.ttnn.lowered import Tensors, golden_outputs, lowered

GEOMETRY = Geometry(32, 32, 31)  # 6 latent frames of 4 x 4
ONE_FRAME = Geometry(32, 32, 1)


@cache
def parameters() -> dict[str, torch.Tensor]:
    """Seeded ones, rounded as the chips hold them."""
    shapes = {name: shape for name, shape in parameter_shapes(TINY).items() if name.startswith("decoder.")}
    return {name: seeded_parameter(name, shape, seed=0).bfloat16().float() for name, shape in shapes.items()}


@cache
def decoder(dtype: str, geometry: Geometry = GEOMETRY) -> Program:
    shapes = parameter_shapes(TINY)
    source = Tensors({name: torch.zeros(shape) for name, shape in shapes.items()})
    return build_programs(TINY, geometry, dtype, source)["decode"]


@cache
def latents(geometry: Geometry) -> np.ndarray:
    shape = (1, 12, *geometry.latent_size(TINY))
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@cache
def expected(geometry: Geometry) -> np.ndarray:
    """uint8 [frames, 32, 32, 3], computed in float32."""

    def read(param: Param) -> np.ndarray:
        return np.asarray(parameters()[param.recipe.name].numpy())  # type: ignore[union-attr]  # all are Checkpoint

    return run(decoder("float32", geometry), {"latents": latents(geometry)}, read)["frames"]


@cache
def lowered_decoder(rows: int, columns: int, plan: str, strip: int = 0, geometry: Geometry = GEOMETRY) -> Lowered:
    program = decoder("bfloat16", geometry)
    return lowered(
        in_strips(program, "latent_video", strip) if strip else program, (rows, columns), DECODER_PLANS[plan]
    )


@pytest.mark.parametrize(
    ("rows", "columns", "plan", "strip", "geometry"),
    [
        (1, 1, "h0w1", 0, GEOMETRY),  # nothing is cut
        (2, 2, "h0w1", 0, GEOMETRY),  # both halos in space are one call, time has a front of its own
        (2, 3, "w0t1", 0, GEOMETRY),  # the halo in time
        (2, 4, "h0t1", 0, GEOMETRY),  # the last chips have a part of their frames, and none
        (2, 2, "w0h1", 1, GEOMETRY),  # strips shorter than what convolutions look back
        (1, 2, "h0w1", 2, GEOMETRY),
        (2, 2, "h0w1", 3, GEOMETRY),
        (2, 1, "h0w1", 4, GEOMETRY),  # a shorter last strip
        (1, 1, "h0w1", 5, GEOMETRY),  # one that is shorter than what convolutions look back
        (2, 2, "h0w1", 0, ONE_FRAME),
        (2, 1, "h0t1", 0, ONE_FRAME),  # a plan for time, which this mesh does not cut
    ],
)
def test_frames(rows: int, columns: int, plan: str, strip: int, geometry: Geometry) -> None:
    """bfloat16 keeps 8 bits; some 50 roundings, each of at most 2^-9 of about one deviation, add up to 1.4% of one as a
    random walk does, which leaves a correlation above 0.9999."""
    count, mesh = geometry.frames, (rows, columns)
    low = lowered_decoder(rows, columns, plan, strip, geometry)
    frames, nonfinite = golden_outputs(low, mesh, {"latents": latents(geometry)}, parameters()).values()
    assert list(nonfinite.shape) == [rows, columns] and not nonfinite.any()
    assert frames.dtype == torch.uint8 and list(frames.shape) == [count, 32, 32 * 3]
    seen, known = (array.reshape(count, -1).astype(np.float64) for array in (frames.numpy(), expected(geometry)))
    assert known.std() > 5  # of 255: not a grey picture
    assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(seen, known, strict=True)) > 0.999


def test_what_leaves_the_chips() -> None:
    output, count = lowered_decoder(2, 2, "h0w1").program.outputs
    spec = output.spec
    assert (spec.dtype, spec.layout, spec.shape, spec.local_shape) == ("uint8", "row_major", [31, 32, 96], [31, 16, 48])
    assert spec.placements == [Placement(1, 16), Placement(2, 48)]
    assert (count.name, count.spec.shape, count.spec.local_shape) == ("nonfinite", [2, 2], [1, 1])
    assert count.spec.placements == [Placement(0, 1), Placement(1, 1)]


def test_halos_in_space_are_one_call() -> None:
    instructions = lowered_decoder(2, 2, "h0w1").program.instructions
    halos = [i for i in instructions if i.op == "experimental.neighbor_pad_async"]
    assert len(halos) == sum(i.op == "experimental.conv3d" for i in instructions)
    assert all(i.attrs["dim"] == [2, 3] and i.attrs["axis"] == [0, 1] for i in halos)


def test_no_rows_are_shorter_than_their_channels() -> None:
    """A reshape of rows as short as the factors of the unfolding would take up many times its size."""
    for instruction in lowered_decoder(1, 1, "h0w1").program.instructions:
        if instruction.op == "reshape":
            shape = instruction.attrs["shape"]
            assert isinstance(shape, list) and (shape[-1] in (12, 3) or shape[-1] >= 32 or shape == [1, 1])  # type: ignore[operator]


def test_pieces_that_do_not_divide() -> None:
    with pytest.raises(LoweringError, match="pieces of 2 do not divide dimension 2, 4 long; choose another plan"):
        lowered(decoder("bfloat16"), (3, 1), DECODER_PLANS["h0w1"])
