"""Weights: their names, the piece that each device holds, and that equal pieces are written once."""

from collections.abc import Buffer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.layout import FileGroup
from mochi_aot.artifacts.writer import BundleWriter
from mochi_aot.compiler.ir.numpy_values import assemble, distribute, quantised
from mochi_aot.compiler.ir.program import SCALES, VALUES, Checkpoint, Concat, Constant, Param, Quantised, Recipe, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.lower import weights
from mochi_aot.compiler.lower.memory import Arena
from mochi_aot.compiler.lower.shards import WINDOW_BYTES, ShardedWeight
from mochi_aot.compiler.lower.weight_belt import WeightBelt
from mochi_aot.compiler.lower.weights import cut_axes, fill, local_index, local_tensor, weight_name, weight_source
from tests.compiler.partition.legal import Placements, Shape, meshes, placements, shapes

R = REPLICATE


def param(recipe: Recipe, shape: Shape, cuts: Placements = (R, R), dtype: str = "float32") -> Param:
    return Param(Value("v", TensorType(shape, dtype, cuts)), recipe)


class Tensors:
    """A checkpoint of given tensors that notes what was read of it."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors = tensors
        self.reads: list[tuple[str, tuple[slice, ...]]] = []

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        self.reads.append((name, index))
        return self.tensors[name][index]

    def fingerprint(self, name: str) -> str:
        return str(self.tensors[name].flatten().tolist())


def concat(*parts: Param, dim: int = 0) -> Concat:
    return Concat(tuple((part.recipe, part.value.type) for part in parts), dim)


A, B = Checkpoint("a"), Checkpoint("b")
ROWS = (Shard(0, 2), R)


def test_names_say_what_a_weight_is() -> None:
    assert weight_name(param(A, (4, 4))) == "a/float32"
    assert weight_name(param(A, (4, 4), (Shard(0, 2), Shard(1, 1)), "bfloat16")) == "a/0:0:2/1:1:1/bfloat16"
    joined = weight_name(param(concat(param(A, (4, 4), ROWS), param(B, (2, 4), ROWS)), (6, 4), (Shard(0, 4), R)))
    assert joined.startswith("a/0:0:2/float32+1:")


def distinct_weights() -> list[Param]:
    """No two of these hold the same bytes on every device."""
    numbers = np.arange(16, dtype=np.float32).reshape(4, 4)
    a, b = param(A, (4, 4)), param(B, (4, 4))
    return [
        a,
        b,
        param(A, (4, 4), dtype="bfloat16"),
        param(A, (4, 4), ROWS),
        param(A, (4, 4), (R, Shard(0, 2))),
        param(A, (4, 4), (Shard(1, 2), R)),
        param(A, (4, 4), (Shard(0, 4), R)),
        param(A, (4, 4), (Shard(0, 2), Shard(0, 1))),
        param(Constant(numbers), (4, 4)),
        param(Constant(numbers + 1), (4, 4)),
        param(Constant(numbers.reshape(2, 8)), (2, 8)),
        param(Constant(numbers.astype(np.int32)), (4, 4), dtype="int32"),
        param(Quantised("a", VALUES), (4, 4), dtype="float8"),
        param(Quantised("a", SCALES), (4,)),
        param(concat(a, b), (8, 4)),
        param(concat(b, a), (8, 4)),
        param(concat(a, a), (8, 4)),
        param(concat(a, b, dim=1), (4, 8)),
        param(concat(a, b, a), (12, 4)),
        param(concat(param(A, (4, 4), ROWS), param(B, (4, 4), ROWS)), (8, 4), (Shard(0, 4), R)),
        param(concat(param(concat(a, b), (8, 4)), a), (12, 4)),
    ]


def test_different_weights_have_different_names() -> None:
    names = [weight_name(weight) for weight in distinct_weights()]
    assert len(set(names)) == len(names)


def test_equal_weights_have_equal_names_whatever_programs_call_them() -> None:
    for first, second in zip(distinct_weights(), distinct_weights(), strict=True):
        second.value.name = "another"
        assert weight_name(first) == weight_name(second)


@st.composite
def cut_arrays(draw: st.DrawFn) -> tuple[np.ndarray, Placements, tuple[int, int]]:
    mesh, shape = draw(meshes), draw(shapes(min_rank=0))
    cuts = draw(placements(shape, mesh))
    return np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.float32).reshape(shape), cuts, mesh


def devices(weight: Param, source: Tensors, mesh: tuple[int, int]) -> list[np.ndarray]:
    coordinates = [divmod(device, mesh[1]) for device in range(mesh[0] * mesh[1])]
    return [local_tensor(weight.recipe, weight.value.type, c, source).numpy() for c in coordinates]


@given(cut_arrays(), st.booleans())
def test_pieces_are_those_of_the_interpreter(case: tuple[np.ndarray, Placements, tuple[int, int]], known: bool) -> None:
    """Zeros in the padding, and put together again they are the whole."""
    array, cuts, mesh = case
    source = Tensors(a=torch.from_numpy(array))
    weight = param(Constant(array) if known else A, array.shape, cuts)
    pieces = devices(weight, source, mesh)
    for piece, expected in zip(pieces, distribute(array, weight.value.type, mesh, None), strict=True):
        np.testing.assert_array_equal(piece, expected)
    np.testing.assert_array_equal(assemble(pieces, weight.value.type, mesh), array)


@given(cut_arrays())
def test_no_more_rows_are_read_than_a_device_holds(case: tuple[np.ndarray, Placements, tuple[int, int]]) -> None:
    array, cuts, mesh = case
    source = Tensors(a=torch.from_numpy(array))
    type = TensorType(array.shape, "float32", cuts)
    for device in range(mesh[0] * mesh[1]):
        local_tensor(A, type, divmod(device, mesh[1]), source)
    for _, index in source.reads:
        assert all(part.stop - part.start <= n for part, n in zip(index, type.local_shape, strict=False))


@given(cut_arrays())
def test_devices_along_other_axes_hold_the_same(case: tuple[np.ndarray, Placements, tuple[int, int]]) -> None:
    array, cuts, mesh = case
    type = TensorType(array.shape, "float32", cuts)
    axes = cut_axes(A, type)
    assert axes == {axis for axis, cut in enumerate(cuts) if isinstance(cut, Shard)}
    for coordinates in np.ndindex(mesh):
        reduced = tuple(c if axis in axes else 0 for axis, c in enumerate(coordinates))
        assert local_index(type, coordinates) == local_index(type, reduced)


@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(["float32", "bfloat16"]))
def test_joined_pieces(columns: int, rows: list[int], dtype: str) -> None:
    """A device holds its rows of each part, one part after the other."""
    cut: Placement = Shard(0, 0)
    parts, tensors = [], {}
    for index, count in enumerate(rows):
        shape = (count * columns, 3)
        tensors[f"t{index}"] = torch.randn(shape, generator=torch.Generator().manual_seed(index))
        cut = Shard(0, count)
        parts.append(param(Checkpoint(f"t{index}"), shape, (R, cut), dtype))
    type = TensorType((sum(rows) * columns, 3), dtype, (R, Shard(0, sum(rows))))
    recipe = concat(*parts)
    assert cut_axes(recipe, type) == {1}
    for column in range(columns):
        actual = local_tensor(recipe, type, (0, column), Tensors(**tensors))
        pieces = [t[column * n : (column + 1) * n] for t, n in zip(tensors.values(), rows, strict=True)]
        expected = torch.cat(pieces).to({"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype])
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)


class Recorder(BundleWriter):
    """A bundle's writer that keeps what it writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.shards: list[bytes] = []
        self.weights: list[schema.Weight] = []

    def add_shard(self, data: Buffer, digest: str | None = None, group: FileGroup = FileGroup.SMALL) -> int:
        index = super().add_shard(data, digest, group)
        contents = memoryview(data).tobytes()
        if index == len(self.shards):
            self.shards.append(contents)
        assert self.shards[index] == contents
        return index

    def add_weight(self, weight: schema.Weight) -> None:
        super().add_weight(weight)
        self.weights.append(weight)

    def array(self, weight: int, device: int, dtype: type[np.generic]) -> np.ndarray:
        """What a device holds of a weight."""
        record = self.weights[weight]
        return np.frombuffer(self.shards[record.shards[device]], dtype).reshape(record.local_shape)


def write(folder: Path, weights: list[Param], source: Tensors, mesh: tuple[int, int]) -> Recorder:
    arena = Arena()
    with Recorder(folder / "bundle") as bundle, WeightBelt(bundle, WINDOW_BYTES) as belt:
        for weight in weights:
            belt.put(ShardedWeight(bundle, weight, source, mesh, arena))
    return bundle


NUMBERS = torch.arange(24, dtype=torch.float32).reshape(4, 6)


@pytest.mark.parametrize(
    ("cuts", "shards"),
    [
        ((R, R), [0] * 8),
        ((Shard(0, 2), R), [0, 0, 0, 0, 1, 1, 1, 1]),
        ((R, Shard(0, 1)), [0, 1, 2, 3, 0, 1, 2, 3]),
        ((Shard(0, 2), Shard(1, 2)), [0, 1, 2, 3, 4, 5, 6, 3]),  # both last columns are padding
    ],
    ids=["whole", "rows", "columns", "both"],
)
def test_each_distinct_piece_is_written_once(tmp_path: Path, cuts: Placements, shards: list[int]) -> None:
    written = write(tmp_path, [param(A, (4, 6), cuts)], Tensors(a=NUMBERS), (2, 4))
    (weight,) = written.weights
    assert weight.shards == shards
    assert len(written.shards) == len(set(shards))
    for device, expected in enumerate(distribute(NUMBERS.numpy(), TensorType((4, 6), "float32", cuts), (2, 4), None)):
        np.testing.assert_array_equal(written.array(0, device, np.float32), expected)


def test_a_weight_of_several_programs_is_written_once(tmp_path: Path) -> None:
    source = Tensors(a=NUMBERS)
    same = [param(A, (4, 6), ROWS) for _ in range(3)]
    written = write(tmp_path, same, source, (2, 2))
    assert [weight.name for weight in written.weights] == ["a/0:0:2/float32"]
    assert len(source.reads) == 2


def test_weights_of_equal_contents_share_shards(tmp_path: Path) -> None:
    written = write(tmp_path, [param(A, (4, 6)), param(B, (4, 6))], Tensors(a=NUMBERS, b=NUMBERS.clone()), (1, 1))
    assert [weight.shards for weight in written.weights] == [[0], [0]]


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("float32", np.float32), ("int32", np.int32), ("bool", np.bool_), ("uint8", np.uint8)],
)
def test_every_dtype_as_it_is_stored(tmp_path: Path, dtype: str, stored: type[np.generic]) -> None:
    array: np.ndarray = np.array([[0, 1, 2], [3, 0, 1]]).astype(stored)
    weight = param(Constant(array), (2, 3), (R, Shard(1, 2)), dtype)
    written = write(tmp_path, [weight], Tensors(), (1, 2))
    assert written.weights[0].dtype == dtype
    np.testing.assert_array_equal(written.array(0, 0, stored), array[:, :2])
    np.testing.assert_array_equal(written.array(0, 1, stored), np.pad(array[:, 2:], ((0, 0), (0, 1))))


def test_bfloat16_is_rounded_to_nearest(tmp_path: Path) -> None:
    """1 + 2^-8 lies between two bfloat16 numbers and goes to the even one, 1 + 3 * 2^-8 to 1 + 2^-6."""
    numbers = torch.tensor([1.0, 1.00390625, 1.01171875, -2.0])
    written = write(tmp_path, [param(A, (4,), dtype="bfloat16")], Tensors(a=numbers), (1, 1))
    bits = written.array(0, 0, np.uint16)
    assert [hex(b) for b in bits] == ["0x3f80", "0x3f80", "0x3f82", "0xc000"]


def test_a_single_number(tmp_path: Path) -> None:
    written = write(tmp_path, [param(Constant(np.array(2.5, np.float32)), ())], Tensors(), (1, 2))
    assert written.weights[0].local_shape == []
    assert written.array(0, 1, np.float32).tolist() == 2.5


def test_a_column_of_a_matrix_is_written_contiguously(tmp_path: Path) -> None:
    written = write(tmp_path, [param(A, (4, 6), (R, Shard(1, 1)))], Tensors(a=NUMBERS), (1, 6))
    np.testing.assert_array_equal(written.array(0, 2, np.float32), NUMBERS[:, 2:3].numpy())


@given(cut_arrays())
def test_several_devices_are_filled_from_one_reading(case: tuple[np.ndarray, Placements, tuple[int, int]]) -> None:
    """Each row is read once, in blocks of two rows here, whatever the devices hold of it."""
    array, cuts, mesh = case
    source, type = Tensors(a=torch.from_numpy(array)), TensorType(array.shape, "float32", cuts)
    places = [divmod(device, mesh[1]) for device in range(mesh[0] * mesh[1])]
    outs = [torch.full(type.local_shape, 7.0) for _ in places]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "BLOCK_BYTES", 8 * max(int(np.prod(array.shape[1:])), 1))
        fill(A, type, places, outs, source)
    for out, expected in zip(outs, distribute(array, type, mesh, None), strict=True):
        np.testing.assert_array_equal(out.numpy(), expected)
    rows = [row for _, index in source.reads for row in range(array.shape[0])[index[0]]] if array.shape else []
    assert sorted(rows) == list(range(array.shape[0] if array.shape else 0))


@given(cut_arrays(), st.integers(0, 1000))
def test_quantised_pieces_are_those_of_the_whole(
    case: tuple[np.ndarray, Placements, tuple[int, int]], seed: int
) -> None:
    """Whichever devices hold pieces of a row, its numbers and its one scale are those of the whole matrix, as the
    interpreter defines them; rows are read in blocks of two here."""
    array, cuts, mesh = case
    if array.ndim != 2:
        return
    matrix = np.random.default_rng(seed).standard_normal(array.shape).astype(np.float32)
    values, scales = quantised(matrix)
    by_rows = tuple(cut if isinstance(cut, Shard) and cut.dim == 0 else R for cut in cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "SCALED_ROWS", 2)
        patch.setattr(weights, "BLOCK_BYTES", 8 * array.shape[1])
        for part, whole, type in (
            (VALUES, values, TensorType(array.shape, "float8", cuts)),
            (SCALES, scales, TensorType(array.shape[:1], "float32", by_rows)),
        ):
            source = Tensors(a=torch.from_numpy(matrix))
            expected = distribute(whole, type, mesh, None)
            for device, piece in enumerate(expected):
                made = local_tensor(Quantised("a", part), type, divmod(device, mesh[1]), source)
                np.testing.assert_array_equal(made.float().numpy(), piece)


def test_float8_is_written_as_its_codes(tmp_path: Path) -> None:
    """A sign, 4 bits of exponent from 2^-6 on, 3 of fraction: 448 is 1.75 * 2^8, 0 1111 110. Scales are powers of 2."""
    numbers = torch.tensor([[448.0, -1.0, 1.0625, 0.0], [3.5, 0.0, -3.5, 3.625]])
    both = [
        param(Quantised("a", VALUES), (2, 4), dtype="float8"),
        param(Quantised("a", SCALES), (2,)),
    ]
    written = write(tmp_path, both, Tensors(a=numbers), (1, 1))
    assert [weight.name for weight in written.weights] == ["a/float8", "a:scales/float32"]
    # 1.0625 lies between 1 and 1.125, and goes to the even one; 3.625 is more than 448 / 128, and 232 of 1 / 64, which
    # lies between 224 and 240.
    assert written.array(0, 0, np.uint8).tolist() == [[0x7E, 0xB8, 0x38, 0x00], [0x76, 0x00, 0xF6, 0x76]]
    assert written.array(1, 0, np.float32).tolist() == [1.0, 2.0**-6]


def test_a_source_is_what_a_weight_is_made_of() -> None:
    """Every weight of these has its own; other numbers in a tensor, or another mesh, change it."""

    def key(weight: Param, mesh: tuple[int, int] = (2, 2), b: float = 1.0) -> str:
        source = Tensors(a=NUMBERS, b=torch.full((4,), b))
        return weight_source(weight_name(weight), weight.recipe, mesh, source)

    keys = [key(weight) for weight in distinct_weights()]
    assert len(set(keys)) == len(keys)
    of_a, of_both = distinct_weights()[0], distinct_weights()[14]
    assert key(of_a, mesh=(1, 4)) != key(of_a)
    assert key(of_a, b=2.0) == key(of_a)
    assert key(of_both, b=2.0) != key(of_both)
