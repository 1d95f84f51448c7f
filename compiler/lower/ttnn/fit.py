"""How much of a video the decoder works on at a time, so that a chip has room for it beside other programs' weights."""

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.strips import TIME, in_strips

LATENT_VIDEO = "latent_video"
# Of the largest value. Three of them are in memory at once, and some frames for each convolution. Larger ones would
# save little: what a strip costs more than the video in one go is a second exchange of the borders of those frames.
STRIP_BYTES = 640 << 20


def decoder_in_strips(program: Program, mesh: Mesh, plan: Plan) -> Program:
    """Return `program`, the decoder without a mesh, in strips of equal length that `plan` has room for.

    It comes back as it is where one strip is enough, and where the plan cuts time: chips would wait for the last strips
    of their neighbours.
    """
    cuts = plan.values[LATENT_VIDEO]
    if any(cut.dim == TIME and mesh[cut.axis] > 1 for cut in cuts):
        return program
    frames = strip_frames(partition(program, mesh, plan))
    return program if frames == latent_frames(program) else in_strips(program, LATENT_VIDEO, frames)


def strip_frames(program: Program) -> int:
    """Return the latent frames of a strip, of a partitioned decoder, whose largest value has all frames of the video.

    The first latent frame becomes one frame, each other one `growth`: these decide how long strips can be.
    """
    latent, frames = latent_frames(program), program.outputs[0].value.type.shape[0]
    if latent == 1:
        return 1
    growth = (frames - 1) // (latent - 1)
    largest = max(value.type.local_nbytes for value in program.values())
    most = max(1, STRIP_BYTES * frames // (largest * growth))
    strips = -(-latent // most)
    return -(-latent // strips)


def latent_frames(program: Program) -> int:
    """Return T of a decoder's input, the latents [1, C, T, h, w]."""
    return program.inputs[0].value.type.shape[2]
