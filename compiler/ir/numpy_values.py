"""How values are held in numpy, and how global arrays become one array a device and back.

float32, int32, bool and uint8 are held as themselves; a bfloat16 value is a float32 array whose every element is a
bfloat16 number. On a mesh a value is a list of arrays, one per device, row-major: device = row * columns + column.
Devices that hold equal contents by construction share one array object.
"""

from collections.abc import Callable

import numpy as np

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.ir.text import type_text
from mochi_aot.compiler.ir.types import Partial, Placement, Shard, TensorType

FLOAT8_MAX = 448.0  # the largest number in float8
FLOAT8_LEAST_EXPONENT = -126  # of a scale: float32 has less in smaller numbers

Mesh = tuple[int, int]
Devices = list[np.ndarray]


def once_each[T](function: Callable[..., T], operands: list[Devices]) -> list[T]:
    """Return `function` of each device's arrays, computed once for devices that share their arrays."""
    made: dict[tuple[int, ...], T] = {}
    results = []
    for arrays in zip(*operands, strict=True):
        key = tuple(map(id, arrays))
        if key not in made:
            made[key] = function(*arrays)
        results.append(made[key])
    return results


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """Return the float32 array of the nearest bfloat16 numbers, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded &= 0xFFFF0000
    result = rounded.view(np.float32)
    nan = np.isnan(x)
    if nan.any():
        result[nan] = np.nan
    return result.reshape(np.shape(x))


def round_float8(x: np.ndarray) -> np.ndarray:
    """Return the float32 array of the nearest float8 numbers, ties to even; beyond 448 of 448, NaN stays NaN.

    These have a sign, 4 bits of exponent and 3 of fraction: E4M3 of "FP8 Formats for Deep Learning" (Micikevicius et
    al., 2022), whose steps are an eighth of a power of two, and 2^-9 below 2^-6.
    """
    x = np.clip(x, -FLOAT8_MAX, FLOAT8_MAX)  # passes NaN on
    _, exponents = np.frexp(x)  # |x| is in [2^(e - 1), 2^e)
    exponents = np.maximum(exponents - 1, -6) - 3
    with np.errstate(invalid="ignore"):  # numpy says so of NaN
        result: np.ndarray = np.ldexp(np.rint(np.ldexp(x, -exponents)), exponents)
    return result


def quantised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float8 numbers and scales of float32 rows [..., n], float32 [..., n] and [...]: a number times its row's
    scale is near the row's own.

    Scales are the least powers of two, 2^-126 at least, by which a row's largest number is at most 448: so nothing but
    the rounding to float8 is lost, and what is in float8 already stays as it is. A row's largest may be no number; then
    it is the scale, and no number comes of the row.
    """
    largest = np.max(np.abs(rows), -1)
    # Of a fraction and a power of two; 448 is 0.875 * 2^9.
    fractions, exponents = np.frexp(np.maximum(largest, np.float32(2.0**FLOAT8_LEAST_EXPONENT)))
    exponents = np.maximum(exponents - 9 + (fractions > FLOAT8_MAX / 512), FLOAT8_LEAST_EXPONENT)
    scales = np.where(np.isfinite(largest), np.ldexp(np.float32(1), exponents), largest)
    with np.errstate(invalid="ignore"):
        return round_float8(rows / scales[..., None]), scales


def store(array: np.ndarray, type: TensorType) -> np.ndarray:
    """Return a global array as the interpreter holds it.

    Raise ValueError if shape or kind of dtype do not fit the type.
    """
    array = np.asarray(array)
    if array.shape != type.shape:
        raise ValueError(f"array of shape {array.shape} for {type_text(type)}")
    if not np.can_cast(array.dtype, DTYPES[type.dtype].held, "same_kind"):
        raise ValueError(f"array of {array.dtype} for {type_text(type)}")
    array = array.astype(DTYPES[type.dtype].held, copy=False)
    return round_bfloat16(array) if type.dtype == "bfloat16" else array


def padding(dtype: str, poison: float | None) -> float | bool:
    """Return what fills padding: zero, or `poison` to show reads of it. Integers stay zero, for they may be indices."""
    if poison is None or dtype in ("int32", "uint8"):
        return 0
    return True if dtype == "bool" else float(round_bfloat16(np.array(poison, np.float32)))


def piece(x: np.ndarray, dim: int, chunk: int, coordinate: int, fill: float) -> np.ndarray:
    """Return elements [coordinate * chunk, (coordinate + 1) * chunk) of `dim`, with `fill` past the end."""
    start = min(coordinate * chunk, x.shape[dim])
    index: list[slice] = [slice(None)] * x.ndim
    index[dim] = slice(start, start + chunk)
    held = x[tuple(index)]
    if held.shape[dim] == chunk:
        return held
    missing = [(0, 0)] * x.ndim
    missing[dim] = (0, chunk - held.shape[dim])
    return np.pad(held, missing, constant_values=fill)


def trim(x: np.ndarray, dim: int, size: int) -> np.ndarray:
    """Return the first `size` elements of `dim`."""
    index: list[slice] = [slice(None)] * x.ndim
    index[dim] = slice(size)
    return x[tuple(index)]


def distribute(array: np.ndarray, type: TensorType, mesh: Mesh, poison: float | None) -> Devices:
    """Return what each device holds of a global array."""
    fill = padding(type.dtype, poison)
    rows = _cut(array, type.placements[0], mesh[0], fill) if type.placements else [array] * mesh[0]
    devices: Devices = []
    made: dict[int, Devices] = {}
    for row in rows:
        if id(row) not in made:
            made[id(row)] = _cut(row, type.placements[1], mesh[1], fill) if type.placements else [row] * mesh[1]
        devices += made[id(row)]
    return devices


def assemble(devices: Devices, type: TensorType, mesh: Mesh) -> np.ndarray:
    """Return the global array, padding trimmed. Raise ValueError if the value is partial or its replicas differ."""
    if not type.placements:
        return devices[0]
    outer, inner = type.placements
    copies = [
        _whole([[devices[r * mesh[1] + c] for c in columns] for r in rows], type)
        for rows in _replicas(outer, mesh[0])
        for columns in _replicas(inner, mesh[1])
    ]
    for copy in copies[1:]:
        _require_equal(copies[0], copy, type)
    return copies[0]


def _replicas(placement: Placement, count: int) -> list[list[int]]:
    """Return the coordinates that make up each copy along an axis: all of them make one, or each its own."""
    if isinstance(placement, Partial):
        raise ValueError("a partial value has no global array")
    return [list(range(count))] if isinstance(placement, Shard) else [[c] for c in range(count)]


def _whole(grid: list[Devices], type: TensorType) -> np.ndarray:
    """Return the pieces of one copy, joined along axis 1, then along axis 0."""
    outer, inner = type.placements
    nested = isinstance(outer, Shard) and isinstance(inner, Shard) and outer.dim == inner.dim
    rows = [_join(row, inner, type, outer.chunk if nested and isinstance(outer, Shard) else None) for row in grid]
    return _join(rows, outer, type, None)


def _join(pieces: Devices, placement: Placement, type: TensorType, size: int | None) -> np.ndarray:
    if not isinstance(placement, Shard):
        return pieces[0]
    whole = np.concatenate(pieces, placement.dim)
    return trim(whole, placement.dim, type.shape[placement.dim] if size is None else size)


def _require_equal(first: np.ndarray, other: np.ndarray, type: TensorType) -> None:
    """Raise ValueError unless copies are equal: they come from the same sums in the same order; the tolerance is a few
    roundings of their largest value."""
    if first is other or np.array_equal(first, other, equal_nan=first.dtype == np.float32):
        return
    difference = float(np.max(np.abs(first.astype(np.float32) - other.astype(np.float32))))
    rounding = {"float32": 1e-5, "bfloat16": 2.0**-6}.get(type.dtype, 0.0)
    if not difference <= rounding * float(np.max(np.abs(first))):
        raise ValueError(f"devices hold copies of {type_text(type)} that differ by {difference}")


def _cut(array: np.ndarray, placement: Placement, count: int, fill: float) -> Devices:
    if isinstance(placement, Shard):
        return [piece(array, placement.dim, placement.chunk, c, fill) for c in range(count)]
    return [array] * count
