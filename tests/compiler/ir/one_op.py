"""One op on numpy arrays, through the builder, the verifier and the interpreter."""

import numpy as np
import torch
from torch import Tensor

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Attrs
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify


def apply(opcode: str, attrs: Attrs, *operands: np.ndarray, dtype: str = "float32") -> list[np.ndarray]:
    """Results of one op; `dtype` is what float32 arrays stand for."""
    builder = Builder("one")
    values = []
    for index, array in enumerate(operands):
        kind = dtype if array.dtype == np.float32 else str(array.dtype)
        values.append(builder.input(f"x{index}", TensorType(array.shape, kind), "latent"))
    results = builder.emit_many(opcode, values, attrs)
    for index, value in enumerate(results):
        builder.output(f"y{index}", value)
    verify(builder.program)
    outputs = run(builder.program, {f"x{index}": array for index, array in enumerate(operands)}, {})
    return [outputs[f"y{index}"] for index in range(len(results))]


def normal(seed: int, *shape: int) -> np.ndarray:
    """float32 array of standard normal numbers."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def tensors(*arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def near(actual: np.ndarray, expected: Tensor | np.ndarray, tolerance: float) -> None:
    """Equal shapes, and differences within `tolerance` of the largest expected number (at least 1)."""
    expected = np.asarray(expected, np.float32)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))
