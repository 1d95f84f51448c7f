"""The dtypes that a bundle knows, with their size in bytes and how numpy stores them."""

from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class DType:
    """`storage` is the numpy dtype of the bytes on disk, little-endian; numpy has no bfloat16, so uint16 holds it."""

    name: str
    storage: np.dtype[np.generic]

    @property
    def itemsize(self) -> int:
        return self.storage.itemsize


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DType("float32", np.dtype("<f4")),
        DType("bfloat16", np.dtype("<u2")),
        DType("int32", np.dtype("<i4")),
        DType("uint32", np.dtype("<u4")),
        DType("bool", np.dtype("?")),
        DType("uint8", np.dtype("u1")),
    )
}

# 16 numbers share an exponent: not an array of elements, so only tensor files hold it, and devices.
BLOCK_DTYPES = ("bfloat8_b",)


def tensor_bytes(dtype: str, shape: list[int]) -> int:
    """Bytes of a dense tensor of a dtype in DTYPES."""
    return prod(shape) * DTYPES[dtype].itemsize
