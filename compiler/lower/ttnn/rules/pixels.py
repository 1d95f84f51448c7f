"""A video's bytes, and waves of them, until a product makes many channels of these few.

Tiles pad the last dimension to 32, which three colours would not fill. So a video [1, T, H, W, C] of parts of three
colours each is held in groups of 32 pixels: [1, T, H * W / 32, C * 32], each part's 32 pixels next to each other. The
product's weight has a block for each pixel of a group, and zeros elsewhere.
"""

from mochi_aot.artifacts.tiles import TILE_SIZE
from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer
from mochi_aot.compiler.lower.ttnn.prepare import for_pixels, row_for_pixels
from mochi_aot.compiler.lower.ttnn.rules.frames import is_video
from mochi_aot.compiler.lower.ttnn.rules.table import rule_where

PIXELS, COLOURS = TILE_SIZE, 3
CHANNELS = 4  # the dimension of [1, T, H, W, C]


@rule_where("cast", lambda op: op.operands[0].type.dtype == "uint8")
def bytes_as_numbers(lo: Lowerer, op: Op) -> None:
    """Emit bytes [F, H, W, 3], held as [F, H, W * 3], as numbers in groups of pixels. bfloat16 holds bytes exactly."""
    frames, height, width, colours = op.result.type.local_shape
    if height * width % PIXELS or colours != COLOURS:
        raise lo.fail(f"pieces of {height} x {width} pixels of {colours} colours, expected {PIXELS} times some")
    numbers = lo.to_dtype(lo.held(op.operands[0]), "bfloat16")
    shape = (1, frames, height * width // PIXELS, PIXELS * COLOURS)
    groups = lo.to_layout(lo.emit("reshape", [numbers], shape, shape=list(shape)), TILE)
    lo.tensors[op.result] = lo.to_dtype(groups, op.result.type.dtype).held_as(Form.GROUPED)


@rule_where("reshape", lambda op: is_video(op.result) and op.operands[0].type.shape == op.result.type.shape[1:])
def batched(lo: Lowerer, op: Op) -> None:
    """Hold a video with a batch of one as before."""
    lo.tensors[op.result] = lo.held(op.operands[0])


@rule_where("concat", lambda op: is_video(op.result) and op.attrs["dim"] == CHANNELS)
def parts_beside_parts(lo: Lowerer, op: Op) -> None:
    parts = [lo.to_layout(lo.held(value), TILE) for value in op.operands]
    if any(part.form is not Form.GROUPED for part in parts):
        raise lo.fail("channels beside channels have a ttnn lowering for pixels in groups alone")
    shape = (*parts[0].shape[:3], sum(part.shape[3] for part in parts))
    lo.tensors[op.result] = lo.emit("concat", parts, shape, dim=3).held_as(Form.GROUPED)


def grouped_product(lo: Lowerer, op: Op) -> bool:
    """Emit a product of pixels in groups; return False for other operands."""
    x = lo.held(op.operands[0])
    if x.form is not Form.GROUPED:
        return False
    _, weight, *bias = op.operands
    outputs, inputs = weight.type.shape
    prepared = lo.weight(
        weight, for_pixels(PIXELS, COLOURS), dtype="bfloat16", shape=(inputs * PIXELS, outputs * PIXELS)
    )
    rows = [lo.weight(b, row_for_pixels(PIXELS), dtype="bfloat16", shape=(1, outputs * PIXELS)) for b in bias]
    made = lo.emit(
        "experimental.minimal_matmul",
        [x, prepared, *rows],
        (*x.shape[:3], outputs * PIXELS),
        kw=["bias_tensor"] * len(rows),  # type: ignore[arg-type]  # a list of names
        compute=lo.fidelity,
    )
    shape = (1, x.shape[1], x.shape[2] * PIXELS, outputs)
    flat = lo.emit("reshape", [lo.to_layout(made, ROW_MAJOR)], shape, shape=list(shape))
    lo.tensors[op.result] = flat.held_as(Form.FLAT)
    return True
