"""bfloat16 rounding, storage and the cutting of arrays over devices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mochi_aot.compiler.ir.numpy_values import assemble, distribute, round_bfloat16, store
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType


@given(arrays(np.uint32, (64,)))
def test_rounding_equals_torch_for_all_bits(bits: np.ndarray) -> None:
    x = bits.view(np.float32)
    np.testing.assert_array_equal(round_bfloat16(x), torch.from_numpy(x).bfloat16().float())


@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_rounding_keeps_the_shape(shape: tuple[int, ...]) -> None:
    assert round_bfloat16(np.ones(shape, np.float32)).shape == shape


def test_rounding_of_a_strided_array() -> None:
    x = np.random.default_rng(1).standard_normal((5, 7)).astype(np.float32)
    np.testing.assert_array_equal(round_bfloat16(x.T), round_bfloat16(x).T)


def test_store_converts_within_a_kind() -> None:
    assert store(np.ones(2), TensorType((2,), "float32")).dtype == np.float32
    assert store(np.ones(2, np.int64), TensorType((2,), "int32")).dtype == np.int32
    assert store(np.array([1.001]), TensorType((1,), "bfloat16")).tolist() == [1.0]


@pytest.mark.parametrize("dtype", ["int32", "bool", "uint8"])
def test_store_refuses_another_kind(dtype: str) -> None:
    with pytest.raises(ValueError, match="array of float64 for"):
        store(np.ones(2), TensorType((2,), dtype))


def test_store_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"array of shape \(3,\) for f32\[2\]"):
        store(np.ones(3), TensorType((2,), "float32"))


MESHES = [(1, 1), (1, 2), (2, 2), (2, 4), (1, 8), (4, 8)]


def cut(draw: st.DrawFn, size: int, pieces: int) -> int:
    """A chunk that covers: the smallest, or a little more."""
    return -(-size // pieces) + draw(st.integers(0, 1))


@st.composite
def placed(draw: st.DrawFn) -> tuple[TensorType, tuple[int, int]]:
    """A type of rank 3 on a mesh, both axes replicated or sharded, possibly both cutting one dimension."""
    mesh = draw(st.sampled_from(MESHES))
    shape = draw(st.tuples(*[st.integers(1, 13)] * 3))
    dims = draw(st.tuples(*[st.sampled_from([None, 0, 1, 2])] * 2))
    placements: list[Placement] = [
        REPLICATE if dim is None else Shard(dim, cut(draw, shape[dim], pieces))
        for dim, pieces in zip(dims, mesh, strict=True)
    ]
    if dims[0] is not None and dims[0] == dims[1]:
        inner = cut(draw, -(-shape[dims[0]] // mesh[0]), mesh[1])
        placements = [Shard(dims[0], inner * mesh[1]), Shard(dims[0], inner)]
    return TensorType(shape, "float32", tuple(placements)), mesh


@given(placed(), st.sampled_from([None, 1e30]))
def test_assemble_undoes_distribute(case: tuple[TensorType, tuple[int, int]], poison: float | None) -> None:
    type, mesh = case
    x = np.random.default_rng(3).standard_normal(type.shape).astype(np.float32)
    devices = distribute(x, type, mesh, poison)
    assert len(devices) == mesh[0] * mesh[1]
    assert {array.shape for array in devices} == {type.local_shape}
    np.testing.assert_array_equal(assemble(devices, type, mesh), x)


def test_each_device_holds_its_piece_and_padding() -> None:
    type = TensorType((5, 2), "float32", (Shard(0, 3), Shard(1, 1)))
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    plain, poisoned = (distribute(x, type, (2, 2), poison) for poison in (None, 7.5))
    assert [array.ravel().tolist() for array in plain] == [[0, 2, 4], [1, 3, 5], [6, 8, 0], [7, 9, 0]]
    assert [array.ravel().tolist() for array in poisoned[2:]] == [[6, 8, 7.5], [7, 9, 7.5]]


def test_axis_0_is_major_where_both_cut_one_dimension() -> None:
    type = TensorType((7,), "float32", (Shard(0, 4), Shard(0, 2)))
    devices = distribute(np.arange(7, dtype=np.float32), type, (2, 2), None)
    assert [array.tolist() for array in devices] == [[0, 1], [2, 3], [4, 5], [6, 0]]


@pytest.mark.parametrize(("dtype", "expected"), [("bool", True), ("int32", 0), ("uint8", 0), ("bfloat16", 1e30)])
def test_poison_by_dtype(dtype: str, expected: float) -> None:
    type = TensorType((1,), dtype, (REPLICATE, Shard(0, 1)))
    (_, padding) = distribute(store(np.zeros(1, np.bool_), type), type, (1, 2), 1e30)
    assert padding[0] == pytest.approx(expected, rel=2**-8)


def test_replicas_must_agree() -> None:
    type = TensorType((1,), "float32", (REPLICATE, REPLICATE))
    with pytest.raises(ValueError, match=r"devices hold copies of f32\[1\]\{R,R\} that differ by 1"):
        assemble([np.zeros(1, np.float32), np.ones(1, np.float32)], type, (1, 2))


def test_replicas_may_differ_in_padding() -> None:
    type = TensorType((1,), "float32", (Shard(0, 2), REPLICATE))
    devices = [np.array([5, padding], np.float32) for padding in (0, 9)]
    assert assemble(devices, type, (1, 2)).tolist() == [5]


def test_equal_replicas_may_hold_nan() -> None:
    type = TensorType((1,), "float32", (REPLICATE, REPLICATE))
    assert np.isnan(assemble([np.full(1, np.nan, np.float32) for _ in range(2)], type, (1, 2))).all()


def test_partial_values_have_no_global_array() -> None:
    type = TensorType((1,), "float32", (REPLICATE, PARTIAL))
    with pytest.raises(ValueError, match="partial"):
        assemble([np.zeros(1, np.float32)] * 2, type, (1, 2))
