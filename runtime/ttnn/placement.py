"""From one whole numpy array to a tensor with a piece for each chip and back, as a TensorSpec says."""

import numpy as np
import ttnn

from mochi_aot.artifacts.dtypes import held_dtype
from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS


def split(array: np.ndarray, spec: TensorSpec, mesh: tuple[int, int]) -> ttnn.Tensor:
    """Return a tensor on the host with a piece of array [*spec.shape] for each chip, padded with zeros.

    Booleans and whole numbers are converted to spec.dtype, floats only to floats. Raise BackendError if the
    array does not fit.
    """
    dtype = _dtype(spec)
    target = held_dtype(spec.dtype)
    if list(array.shape) != spec.shape or (array.dtype.kind == "f" and target.kind != "f"):
        raise BackendError(f"upload: expected {target}{spec.shape}, seen {array.dtype}{list(array.shape)}")
    whole = _padded(array, target, spec, mesh)
    placements = [
        ttnn.PlacementReplicate() if placement is None else ttnn.PlacementShard(placement.dim)
        for placement in spec.placements
    ]
    mapper = ttnn.create_mesh_mapper(ttnn.MeshShape(*mesh), ttnn.MeshMapperConfig(placements))
    return ttnn.Tensor(whole, dtype, None, LAYOUTS[spec.layout], mesh_mapper=mapper)


def assemble(value: ttnn.Tensor, spec: TensorSpec, mesh: tuple[int, int]) -> np.ndarray:
    """Undo split, also for a tensor on chips: return it without padding; of replicas, the first chip's."""
    problem = mismatch(value, spec)
    if problem:
        raise BackendError(f"fetch: {problem}")
    by_row, by_column = spec.placements
    rows, columns = mesh
    pieces = ttnn.get_device_tensors(value)

    def row(index: int) -> np.ndarray:
        return _joined([_local(pieces[index * columns + c]) for c in _coordinates(by_column, columns)], by_column)

    whole = _joined([row(r) for r in _coordinates(by_row, rows)], by_row)
    return np.array(whole[tuple(slice(size) for size in spec.shape)], order="C")


def pieces_on_host(value: ttnn.Tensor) -> list[np.ndarray]:
    """Return what each chip holds of a tensor, without the padding of tiles; all chips are read at once."""
    return [_local(piece) for piece in ttnn.get_device_tensors(value.cpu())]


def mismatch(tensor: ttnn.Tensor, spec: TensorSpec) -> str | None:
    """Return what distinguishes a tensor from what `spec` says that each chip holds."""
    same = tensor.dtype == _dtype(spec) and tensor.layout == LAYOUTS[spec.layout]
    if same and list(tensor.shape) == spec.local_shape:
        return None
    return f"expected {spec.dtype}{spec.local_shape} {spec.layout}, seen {describe(tensor)}"


def describe(tensor: ttnn.Tensor) -> str:
    """Return dtype, shape and layout of a tensor, as messages show them."""
    return f"{tensor.dtype.name.lower()}{list(tensor.shape)} {tensor.layout.name.lower()}"


def _dtype(spec: TensorSpec) -> ttnn.DataType:
    if spec.dtype not in DTYPES:
        raise BackendError(f"no chip holds {spec.dtype} tensors; expected one of {', '.join(DTYPES)}")
    return DTYPES[spec.dtype]


def _padded(array: np.ndarray, dtype: np.dtype, spec: TensorSpec, mesh: tuple[int, int]) -> np.ndarray:
    shape = list(spec.shape)
    for placement, chips in zip(spec.placements, mesh, strict=True):
        if placement is not None:
            shape[placement.dim] = placement.chunk * chips
    padded = np.zeros(shape, dtype)
    padded[tuple(slice(size) for size in spec.shape)] = array
    return padded


def _coordinates(placement: Placement | None, chips: int) -> range:
    return range(1 if placement is None else chips)


def _joined(pieces: list[np.ndarray], placement: Placement | None) -> np.ndarray:
    return pieces[0] if placement is None else np.concatenate(pieces, placement.dim)


def _local(piece: ttnn.Tensor) -> np.ndarray:
    """Return what one chip holds, without the padding of tiles."""
    tensor = piece.cpu()
    held = DTYPES[held_dtype(tensor.dtype.name.lower()).name]
    if tensor.dtype != held:
        tensor = ttnn.to_dtype(tensor, held)
    array: np.ndarray = tensor.to_numpy()
    return array
