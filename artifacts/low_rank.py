"""Products of factors, and the piece of their sum that a device adds to a weight."""

import functools
import itertools
from collections.abc import Sequence
from math import prod

import numpy as np

from mochi_aot.artifacts.delta_schema import Factor, Product, TunedWeight
from mochi_aot.artifacts.tiles import TILE_SIZE

FACTOR_DTYPES: dict[str, np.dtype[np.generic]] = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype("<u2"),  # its bits, which numpy has no type for
    "float16": np.dtype("<f2"),
}
FORMS = ("plain", "transposed", "swiglu")
_BLOCK_ELEMENTS = 1 << 20  # of a sum in float64 that is made at a time

type Slices = tuple[slice, slice]


def factor_bytes(factor: Factor) -> int:
    """Return the bytes of a factor."""
    return prod(factor.shape) * FACTOR_DTYPES[factor.dtype].itemsize


def factor_array(factor: Factor, data: memoryview) -> np.ndarray:
    """Return a factor as float32 [rows, columns]; `data` is the file of factors."""
    stored = np.frombuffer(data, FACTOR_DTYPES[factor.dtype], prod(factor.shape), factor.offset).reshape(factor.shape)
    if factor.dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def held_slices(product: Product, coordinates: Sequence[int]) -> Slices:
    """Return the rows and columns of a product's part that the device at these coordinates holds, without padding."""
    held = [slice(0, size) for size in product.shape]
    for coordinate, placement in zip(coordinates, product.placements, strict=True):
        if placement is not None:
            outer = held[placement.dim]
            start = min(outer.start + coordinate * placement.chunk, outer.stop)
            held[placement.dim] = slice(start, min(start + placement.chunk, outer.stop))
    return held[0], held[1]


def held_pieces(tuned: TunedWeight, coordinates: Sequence[int]) -> str:
    """Return which piece of each product the device at these coordinates adds, as a key: equal ones add the same."""
    return repr([held_slices(product, coordinates) for product in tuned.products])


def addition(
    tuned: TunedWeight, factors: Sequence[np.ndarray], coordinates: Sequence[int], local_shape: Sequence[int]
) -> np.ndarray:
    """Return what the device at these coordinates adds to a weight of which it holds `local_shape`: float32, that
    shape.

    Sums are made in float64, so that who makes them matters to hardly any float32; see compiler/lora/tuned.py.
    """
    rows, columns = natural_shape(tuned.form, local_shape)
    total = np.zeros((rows, columns), np.float32)
    by_row = sorted(tuned.products, key=lambda product: product.row)
    for row, group in itertools.groupby(by_row, key=lambda product: product.row):
        products = list(group)
        held, across = held_slices(products[0], coordinates)
        count = max(_BLOCK_ELEMENTS // max(columns, 1), 1)
        for start in range(held.start, held.stop, count):
            stop = min(start + count, held.stop)
            made = (_rows(product, factors, slice(start, stop), across) for product in products)
            block = functools.reduce(np.add, made)
            place = row + start - held.start
            total[place : place + stop - start, : across.stop - across.start] = block
    return in_form(tuned.form, total)


def natural_shape(form: str, local_shape: Sequence[int]) -> tuple[int, int]:
    """Return [outputs, inputs] of a matrix that is held in a form."""
    rows, columns = local_shape
    return (rows, columns) if form == "plain" else (columns, rows)


def in_form(form: str, matrix: np.ndarray) -> np.ndarray:
    """Return [outputs, inputs] as devices hold it."""
    if form == "swiglu":
        halves = matrix.reshape(2, -1, TILE_SIZE, matrix.shape[1])
        matrix = halves.transpose(1, 0, 2, 3).reshape(matrix.shape)
    return matrix if form == "plain" else np.ascontiguousarray(matrix.T)


def _rows(product: Product, factors: Sequence[np.ndarray], rows: slice, columns: slice) -> np.ndarray:
    up = factors[product.up][product.first + rows.start : product.first + rows.stop].astype(np.float64)
    made: np.ndarray = (up * product.scale) @ factors[product.down][:, columns].astype(np.float64)
    return made
