"""How much of a video the VAE works on at a time, so that a device has room for it beside weights."""

import math

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.strips import TIME, annotated, in_strips

LATENT_VIDEO, PIXEL_VIDEO = "latent_video", "pixel_video"
FIRST_STAGE = "down_0"  # what the encoder's strided convolution makes of all pixels; before it, nothing looks ahead


def decoder_in_strips(program: Program, mesh: Mesh, plan: Plan, strip_bytes: int) -> Program:
    """Return `program`, the decoder without a mesh, in strips of equal length whose largest values are of at most
    `strip_bytes` on a device.

    It comes back as it is where one strip is enough, and where the plan cuts time: chips would wait for the last strips
    of their neighbours.
    """
    cuts = plan.values[LATENT_VIDEO]
    if any(cut.dim == TIME and mesh[cut.axis] > 1 for cut in cuts):
        return program
    frames = strip_frames(partition(program, mesh, plan), strip_bytes)
    return program if frames == latent_frames(program) else in_strips(program, LATENT_VIDEO, frames)


def encoder_in_strips(program: Program, mesh: Mesh, plan: Plan, strip_bytes: int) -> Program:
    """Return `program`, the encoder without a mesh, with what it does at full resolution in strips of equal length.

    It comes back as it is where one strip is enough. Later stages are a quarter as large, and attend over time.
    """
    pieces = math.prod(mesh[cut.axis] for cut in plan.values[PIXEL_VIDEO])
    frames = encoder_strip_frames(program, pieces, strip_bytes)
    whole = program.inputs[0].value.type.shape[0]
    return program if frames == whole else in_strips(program, PIXEL_VIDEO, frames, FIRST_STAGE)


def encoder_strip_frames(program: Program, pieces: int, strip_bytes: int) -> int:
    """Return the frames of a strip of an encoder whose frames are cut into so many pieces."""
    frames = program.inputs[0].value.type.shape[0]
    first = program.ops[: program.ops.index(annotated(program, FIRST_STAGE))]
    largest = max(value.type.nbytes for op in first for value in op.results)
    most = max(1, strip_bytes * pieces * frames // largest)
    strips = -(-frames // most)
    return -(-frames // strips)


def strip_frames(program: Program, strip_bytes: int) -> int:
    """Return the latent frames of a strip, of a partitioned decoder, whose largest value has all frames of the video.

    The first latent frame becomes one frame, each other one `growth`: these decide how long strips can be.
    """
    latent, frames = latent_frames(program), program.outputs[0].value.type.shape[0]
    if latent == 1:
        return 1
    growth = (frames - 1) // (latent - 1)
    largest = max(value.type.local_nbytes for value in program.values())
    most = max(1, strip_bytes * frames // (largest * growth))
    strips = -(-latent // most)
    return -(-latent // strips)


def latent_frames(program: Program) -> int:
    """Return T of a decoder's input, the latents [1, C, T, h, w]."""
    return program.inputs[0].value.type.shape[2]
