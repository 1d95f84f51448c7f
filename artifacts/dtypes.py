"""The dtypes of programs and bundles: the one table of their sizes, their names in text, and how others have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class DType:
    """`storage` is the numpy dtype of the bytes on disk, little-endian; numpy has no bfloat16, so uint16 stores it.

    `held` is the numpy dtype of its numbers, in which hosts compute with them and exchange them with devices: bfloat16
    numbers are held as float32, and float8 ones too. `short` is its name in the text form of programs. `chip` is the
    dtype in which chips hold its values between programs: masks are counted and multiplied with, and ids looked up
    with; empty where chips have none. `torch` is torch's name for it.
    """

    name: str
    short: str
    storage: np.dtype[np.generic]
    held: np.dtype[np.generic]
    chip: str
    torch: str

    @property
    def itemsize(self) -> int:
        return self.storage.itemsize


def _same(name: str, short: str, numpy_name: str, chip: str) -> DType:
    return DType(name, short, np.dtype(numpy_name), np.dtype(numpy_name), chip, name)


DTYPES = {
    dtype.name: dtype
    for dtype in (
        _same("float32", "f32", "<f4", chip="float32"),
        DType("bfloat16", "bf16", np.dtype("<u2"), np.dtype("<f4"), chip="bfloat16", torch="bfloat16"),
        _same("int32", "i32", "<i4", chip="uint32"),
        _same("uint32", "u32", "<u4", chip="uint32"),
        _same("bool", "bool", "?", chip="bfloat16"),
        _same("uint8", "u8", "u1", chip="uint8"),
        DType("float8", "f8", np.dtype("u1"), np.dtype("<f4"), chip="", torch="float8_e4m3fn"),
    )
}

# Chips hold indices as uint32; the text of programs, and tracing, do not have that dtype.
PROGRAM_DTYPES = {name: dtype for name, dtype in DTYPES.items() if name != "uint32"}

# Bytes of a tile of 32 x 32 numbers, of which 16 share an exponent: not arrays of elements, so only tensor files hold
# these dtypes, and devices.
BLOCK_DTYPES = {"bfloat8_b": 1088}

# Of 8 bits a number and less than bfloat16 keeps: what a bundle's `weights_dtype` has matrices in.
NARROW_DTYPES = ("float8", *BLOCK_DTYPES)

# ttnn names its dtypes so too, and has none for booleans, nor float8.
TTNN_DTYPES = tuple(name for name in (*DTYPES, *BLOCK_DTYPES) if name not in ("bool", "float8"))


def held_dtype(dtype: str) -> np.dtype[np.generic]:
    """Return the numpy dtype in which hosts hold numbers of a dtype in DTYPES or BLOCK_DTYPES: see DType.held."""
    return DTYPES["float32" if dtype in BLOCK_DTYPES else dtype].held


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Return the bytes of a dense tensor of a dtype in DTYPES."""
    return prod(shape) * DTYPES[dtype].itemsize
