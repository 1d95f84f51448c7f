"""Cutting arrays for chips, on the host: here the numbers can be seen, which a mock mesh does not keep."""

from typing import Any

import numpy as np
import pytest
import ttnn

from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.placement import assemble, split
from tests.runtime.ttnn.on_mesh import spec

MESH = (2, 4)


def on_chip(tensor: ttnn.Tensor, chip: int) -> np.ndarray:
    array: np.ndarray = ttnn.get_device_tensors(tensor)[chip].to_numpy()
    return array


@pytest.mark.mesh  # tiling bfloat16 asks for a cluster, even on the host
@pytest.mark.parametrize("layout", ["row_major", "tile"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint32", "uint8"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (None, None),
        (None, Placement(1, 3)),
        (Placement(2, 30), None),
        (Placement(0, 2), Placement(1, 2)),
    ],
)
def test_what_was_split_is_assembled(
    dtype: str, layout: str, rows: Placement | None, columns: Placement | None
) -> None:
    """Whole numbers below 256, which every dtype holds exactly; [2, 5, 40] is cut unevenly."""
    array = (np.arange(400) % 251).reshape(2, 5, 40).astype("float32" if dtype == "bfloat16" else dtype)
    layout_of_all = spec([2, 5, 40], dtype, layout, rows, columns)
    value = split(array, layout_of_all, MESH)
    assert list(value.shape) == layout_of_all.local_shape
    whole = assemble(value, layout_of_all, MESH)
    assert whole.dtype == array.dtype
    assert np.array_equal(whole, array)


def test_each_chip_gets_its_piece_and_zeros_after_the_end() -> None:
    array = np.arange(30, dtype=np.float32).reshape(3, 10)
    layout = spec([3, 10], "float32", "row_major", Placement(0, 2), Placement(1, 4))
    value = split(array, layout, MESH)
    padded = np.pad(array, [(0, 1), (0, 6)])
    for chip in range(8):
        row, column = divmod(chip, 4)
        assert np.array_equal(on_chip(value, chip), padded[2 * row : 2 * row + 2, 4 * column : 4 * column + 4])


@pytest.mark.mesh
def test_block_floats_share_an_exponent() -> None:
    """16 numbers of 7 bits below the largest of them: an error of at most 2^-7 of it."""
    array = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    layout = spec([32, 64], "bfloat8_b")
    seen = assemble(split(array, layout, MESH), layout, MESH)
    largest = np.abs(array.reshape(32, 4, 16)).max(-1, keepdims=True)
    assert np.all(np.abs(seen - array).reshape(32, 4, 16) <= largest * 2.0**-6)


def test_float32_is_rounded_to_the_nearest_bfloat16() -> None:
    array = np.array([1, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -np.inf], np.float32)
    layout = spec([4], "bfloat16", "row_major")
    seen = assemble(split(array, layout, MESH), layout, MESH)
    assert seen.tolist() == [1, 1, 1 + 2.0**-6, -np.inf]  # halves go to the even neighbour


@pytest.mark.parametrize(("dtype", "one"), [("float32", np.float32(1)), ("bfloat16", np.float32(1)), ("uint32", 1)])
def test_masks_and_whole_numbers_become_what_the_spec_says(dtype: str, one: Any) -> None:
    layout = spec([3], dtype, "row_major")
    for array in (np.array([True, False, True]), np.array([1, 0, 1], np.int32), np.array([1, 0, 1], np.uint8)):
        assert assemble(split(array, layout, MESH), layout, MESH).tolist() == [one, 0, one]


def test_any_array_can_be_split() -> None:
    """Read-only, reversed, not contiguous; and the caller's array is not kept."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    layout = spec([3, 2], "float32", "row_major")
    assert np.array_equal(assemble(split(array.T[::-1], layout, MESH), layout, MESH), array.T[::-1])
    changed = array.T.copy()
    value = split(changed, layout, MESH)
    changed[:] = 7
    assert np.array_equal(assemble(value, layout, MESH), array.T)


@pytest.mark.parametrize("mesh", [(1, 1), (3, 1), (1, 4)])
@pytest.mark.parametrize("shape", [[], [1], [5]])
def test_small_meshes_and_shapes(mesh: tuple[int, int], shape: list[int]) -> None:
    columns = Placement(0, 2 if mesh == (1, 4) else 5) if shape == [5] else None
    layout = spec(shape, "float32", "row_major", columns=columns)
    array = np.full(shape, 7, np.float32)
    assert np.array_equal(assemble(split(array, layout, mesh), layout, mesh), array)


@pytest.mark.parametrize(
    ("array", "layout", "message"),
    [
        (np.zeros((3, 2), np.float32), spec([2, 3], "float32"), r"expected float32\[2, 3\], seen float32\[3, 2\]"),
        (np.zeros((2, 3), np.float32), spec([2, 3], "uint32"), r"expected uint32\[2, 3\], seen float32\[2, 3\]"),
        (np.zeros((2, 3), bool), spec([2, 3], "bool"), r"no chip holds bool tensors; expected one of float32, bf"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray, layout: TensorSpec, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        split(array, layout, MESH)


@pytest.mark.parametrize(
    "other", [spec([2, 4], "float32", "row_major"), spec([2, 3], "int32", "row_major"), spec([2, 3], "float32", "tile")]
)
def test_a_value_of_another_shape_dtype_or_layout(other: TensorSpec) -> None:
    value = split(np.zeros((2, 3), np.float32), spec([2, 3], "float32", "row_major"), MESH)
    with pytest.raises(BackendError, match=r"^fetch: expected .*, seen float32\[2, 3\] row_major$"):
        assemble(value, other, MESH)
