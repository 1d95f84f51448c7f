"""Numbers to run programs on, and how results are compared."""

import zlib
from collections.abc import Mapping

import numpy as np

from mochi_aot.compiler.ir.program import Param, Program
from mochi_aot.compiler.ir.text import recipe_text
from mochi_aot.compiler.ir.types import TensorType

Arrays = dict[str, np.ndarray]

# Reordering a float32 sum of n products of order one changes it by less than n * 2^-24, some 1e-6 for the sums here; a
# wrong element changes a result by about its own size.
REORDERED = 2e-5


def inputs(program: Program, seed: int = 0, ids: int = 2) -> Arrays:
    """Random inputs by name: int32 are below `ids`; of a mask the first three are True."""
    rng = np.random.default_rng(seed)
    return {item.value.name: _random(rng, item.value.type, ids) for item in program.inputs}


def parameter(param: Param) -> np.ndarray:
    """A random array that depends on the recipe and shape alone; rows of a matrix have a length of about one."""
    type = param.value.type
    rng = np.random.default_rng(zlib.crc32(f"{recipe_text(param.recipe)}{type.shape}".encode()))
    return np.asarray(rng.standard_normal(type.shape) / np.sqrt(type.shape[-1] if type.shape else 1), np.float32)


def _random(rng: np.random.Generator, type: TensorType, ids: int) -> np.ndarray:
    if type.dtype == "bool":
        return np.broadcast_to(np.arange(type.shape[-1]) < 3, type.shape)
    if type.dtype == "int32":
        return rng.integers(0, ids, type.shape).astype(np.int32)
    if type.dtype == "uint8":
        return rng.integers(0, 256, type.shape).astype(np.uint8)
    return rng.standard_normal(type.shape).astype(np.float32)


def assert_same(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float) -> None:
    """The same names, shapes and dtypes, and differences within `tolerance` of each array's largest number."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert (actual[name].shape, actual[name].dtype) == (array.shape, array.dtype), name
        scale = max(1.0, float(np.abs(array.astype(np.float32)).max()))
        difference = np.abs(actual[name].astype(np.float32) - array.astype(np.float32)).max()
        assert difference <= tolerance * scale, f"{name}: {difference} of {scale}"
