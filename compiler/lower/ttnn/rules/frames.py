"""How a video [1, T, H, W, C] is held on the chips.

Convolutions and halos want it row by row as it is. Everything else computes on tiles, which pad the last two dimensions
to 32: there it is held flat, as [1, T, H * W, C], whose rows are so many that padding them costs little.
"""

from mochi_aot.compiler.ir.program import Value
from mochi_aot.compiler.lower.ttnn.lowerer import ROW_MAJOR, TILE, Form, Lowerer, Shape, Tensor

RANK = 5


def frames_shape(shape: Shape) -> Shape:
    """Return how frames of bytes [F, H, W, 3] are held: as [F, H, W * 3], since memory is given out in pages of a row,
    which three bytes would not fill."""
    *outer, width, colours = shape
    return (*outer, width * colours)


def is_video(value: Value) -> bool:
    """Return whether a value is [1, T, H, W, C]."""
    return len(value.type.shape) == RANK and value.type.shape[0] == 1


def flat(lo: Lowerer, value: Value) -> Tensor:
    """Return a video's tiles [1, T, H * W, C]; asked twice, made once."""
    x = lo.held(value)
    if x.form is Form.GROUPED:
        raise lo.fail("pixels in groups, of which nothing but waves and a product can be made")
    if x.form is not Form.FLAT:
        b, t, h, w, c = x.shape
        x = _viewed(lo, lo.to_layout(x, ROW_MAJOR), (b, t, h * w, c)).held_as(Form.FLAT)
    return lo.to_layout(x, TILE)


def rows(lo: Lowerer, value: Value) -> Tensor:
    """Return a video [1, T, H, W, C] row by row; asked twice, made once."""
    x = lo.to_layout(lo.held(value), ROW_MAJOR)
    return _viewed(lo, x, value.type.local_shape) if x.form is Form.FLAT else x


def _viewed(lo: Lowerer, x: Tensor, shape: Shape) -> Tensor:
    """Return rows of the same length in other dimensions, in the same buffer."""
    key = ("view", x.value, shape)
    if key not in lo.cache:
        lo.cache[key] = lo.emit("reshape", [x], shape, shape=list(shape))
    return lo.cache[key]
