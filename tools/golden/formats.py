"""How values look in ttnn's number formats, and which torch dtype holds them."""

import torch
from torch import Tensor

# bfloat8_b has 7 significant bits, so bfloat16 holds its numbers exactly. torch can do little with its own uint32.
STORAGE = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bfloat8_b": torch.bfloat16,
    "uint32": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
}
# Of a stored tensor, taking bfloat8_b for bfloat16.
NAMES = {storage: name for name, storage in STORAGE.items() if name != "bfloat8_b"}
BLOCK = 16  # numbers of a row that share an exponent: the width of a face, a quarter of a tile


def stored(tensor: Tensor, dtype: str) -> Tensor:
    """`tensor` rounded to a ttnn dtype, in the torch dtype that STORAGE says. Floats become integers by truncation."""
    if dtype == "bfloat8_b":
        tensor = block_float_rounded(tensor.float())
    return tensor.to(STORAGE[dtype])


def widened(tensor: Tensor) -> Tensor:
    """Floats as float32, in which ops compute; integers as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def block_float_rounded(tensor: Tensor) -> Tensor:
    """float32 numbers rounded to bfloat8_b, as float32.

    Each 16 numbers of a row share the exponent of the largest; a number keeps 7 bits below it, the first of which
    stands for that exponent itself. Rounds to the nearest, halves to the even one, and no further than seven ones.
    """
    *rows, width = tensor.shape
    blocks = torch.nn.functional.pad(tensor, (0, -width % BLOCK)).reshape(*rows, -1, BLOCK)
    # frexp gives x = m * 2^e with 1/2 <= m < 1, so the last of seven bits is worth 2^(e - 7).
    _, exponent = torch.frexp(blocks.abs().amax(dim=-1, keepdim=True))
    unit = torch.exp2(exponent - 7.0)
    rounded = (blocks / unit).round().clamp(-127, 127) * unit
    return rounded.reshape(*rows, -1)[..., :width]
