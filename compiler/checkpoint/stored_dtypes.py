"""How tensors are stored in files, and what becomes of them when they are read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

# Bytes as a file has them, and the tensor's scale -> the values, in the order of the file.
Decoder = Callable[[np.ndarray, float], torch.Tensor]


@dataclass(frozen=True)
class Stored:
    """A dtype of files: what people call it, the dtype that it is read as, and how, unless by its bytes as they are."""

    name: str
    dtype: torch.dtype
    decode: Decoder | None = None


def decode_fp8(kind: torch.dtype) -> Decoder:
    """Return the decoder of a dtype of eight bits, each value times the scale, to bfloat16."""
    codes = torch.arange(256, dtype=torch.uint8).view(kind).to(torch.float64).numpy()

    def decode(data: np.ndarray, scale: float) -> torch.Tensor:
        values = rounded_to_bfloat16(codes * scale).view(torch.int16).numpy()
        return torch.from_numpy(values[data]).view(torch.bfloat16)

    return decode


def rounded_to_bfloat16(values: np.ndarray) -> torch.Tensor:
    """Return float64 values rounded to the nearest bfloat16, ties to even: once, where a way by float32 rounds twice.

    A value of 8 bits times a scale of 24 has 28 bits at most, which float64 holds and float32 does not.
    """
    mantissa, exponent = np.frexp(values)
    eight_bits = np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)  # of bfloat16's mantissa; np.rint ties to even
    return torch.from_numpy(eight_bits).to(torch.float32).to(torch.bfloat16)


def _decode_q8_0(data: np.ndarray, scale: float) -> torch.Tensor:
    """Return GGUF's blocks of 32 whole numbers of eight bits and their float16 scale: the products, exact in
    float32."""
    from gguf import GGMLQuantizationType, dequantize  # the file was opened by the same package

    return torch.from_numpy(dequantize(data, GGMLQuantizationType.Q8_0))


STORED = {
    "F32": Stored("float32", torch.float32),
    "BF16": Stored("bfloat16", torch.bfloat16),
    "F16": Stored("float16", torch.float16),
    "F8_E4M3": Stored("float8_e4m3fn", torch.bfloat16, decode_fp8(torch.float8_e4m3fn)),
    "F8_E5M2": Stored("float8_e5m2", torch.bfloat16, decode_fp8(torch.float8_e5m2)),
    "Q8_0": Stored("q8_0", torch.float32, _decode_q8_0),
}
