"""The backend on a mock mesh, where all reads give zeros: shapes, dtypes, memory and errors."""

from pathlib import Path

import numpy as np
import pytest
import ttnn

from mochi_aot.artifacts import Bundle, BundleError, BundleWriter
from mochi_aot.artifacts.schema import Geometry, Placement, Program, Weight
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.runtime.backend import Backend
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.placement import split
from tests.artifacts.samples import write_bundle
from tests.runtime.ttnn.on_mesh import COLUMNS, ROWS, backend, instruction, program, spec, used

MESH = (ROWS, COLUMNS)
SHARDED = spec([64, 256], rows=Placement(0, 32), columns=Placement(1, 32))  # chips of rows 2 and 3 have only padding
BLOCKS = spec([64, 64], "bfloat8_b")
TIMES_WEIGHT: Program = program({"x": SHARDED}, ["w"], {"y": (2, SHARDED)}, [instruction("multiply", [0, 1], [2], [])])


def write_tensors(path: Path) -> Bundle:
    """A bundle for the mesh: weights w (bfloat16, sharded) and b (bfloat8_b, replicated), and two that are at fault."""
    tensors = {"w": (np.ones((64, 256), np.float32), SHARDED), "b": (np.ones((64, 64), np.float32), BLOCKS)}
    with BundleWriter(path) as writer:
        for name, (array, layout) in tensors.items():
            tensor = split(array, layout, MESH)
            file = writer.add_tensor_file(lambda place, tensor=tensor: ttnn.dump_tensor(place, tensor))
            writer.add_weight(Weight(name, layout.dtype, layout.local_shape, [], file))
        writer.add_weight(Weight("wrong shape", "bfloat8_b", [32, 32], [], 1))
        writer.add_weight(Weight("wrong dtype", "bfloat16", [64, 64], [], 1))
        broken = writer.add_tensor_file(lambda place: place.write_bytes(b"no tensor"))
        writer.add_weight(Weight("broken", "bfloat16", [32, 32], [], broken))
        index = writer.add_program(TIMES_WEIGHT)
        writer.finish(
            target="ttnn",
            mesh=list(MESH),
            dtype="bfloat16",
            step_capacity=1,
            text_length=1,
            model={},
            checkpoint={},
            versions={},
            geometries=[Geometry(16, 16, 7, {"denoise": index})],
            created_by="test",
            mesh_settings=mesh_settings(MESH),
            weights_dtype="bfloat8_b",
            ttnn="0.1",
        )
    return Bundle.open(path)


@pytest.mark.mesh
def test_it_is_a_backend() -> None:
    checked: Backend = backend()
    assert checked


@pytest.mark.mesh
@pytest.mark.parametrize("columns", [None, Placement(0, 32)])
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        *((dtype, "row_major") for dtype in ("float32", "bfloat16", "int32", "uint32", "uint8")),
        *((dtype, "tile") for dtype in ("float32", "bfloat16", "bfloat8_b", "int32", "uint32", "uint8")),
    ],
)
def test_uploads_and_fetches(dtype: str, layout: str, columns: Placement | None) -> None:
    before, mesh = used(), backend()
    described = spec([250, 48], dtype, layout, columns=columns)
    value = mesh.upload(np.ones((250, 48), "float32" if dtype[0] == "b" else dtype), described)
    assert value.device() == mesh.mesh
    assert list(value.shape) == described.local_shape
    assert (value.dtype.name, value.layout.name) == (dtype.upper(), layout.upper())
    fetched = mesh.fetch(value, described)
    assert fetched.shape == (250, 48)
    assert fetched.dtype == ("float32" if dtype[0] == "b" else dtype)
    assert used() > before
    del value
    assert used() == before


@pytest.mark.mesh
def test_weights_are_loaded_and_freed(tmp_path: Path) -> None:
    before, mesh = used(), backend()
    bundle = write_tensors(tmp_path / "b")
    mesh.load_weights(bundle, ["w", "b"])
    assert [mesh._weights[name].dtype for name in "wb"] == [ttnn.bfloat16, ttnn.bfloat8_b]
    assert list(mesh._weights["w"].shape) == [32, 32]
    # A tile is a page, and pages go round the banks: 1 of 2048 bytes, and 4 of 1088.
    assert used() - before == 2048 + 1088
    mesh.free_weights(["b", "never loaded"])
    assert used() - before == 2048
    mesh.free_weights(["w"])
    assert used() == before


@pytest.mark.mesh
def test_a_program_runs_until_its_weights_are_freed(tmp_path: Path) -> None:
    mesh = backend()
    bundle = write_tensors(tmp_path / "b")
    executable = mesh.load_program(bundle.program("denoise", bundle.manifest.geometries[0]))
    mesh.load_weights(bundle, ["w"])
    x = mesh.upload(np.ones((64, 256), np.float32), SHARDED)
    assert mesh.fetch(executable.run({"x": x})["y"], SHARDED).shape == (64, 256)
    mesh.free_weights(["w"])
    with pytest.raises(BackendError, match=r"^program 'sample': weight 'w' is not loaded; load the program's weights"):
        executable.run({"x": x})


@pytest.mark.mesh
def test_weights_that_cannot_be_loaded(tmp_path: Path) -> None:
    before, mesh = used(), backend()
    bundle = write_tensors(tmp_path / "b")
    with pytest.raises(BackendError, match=r"b: holds no weight 'bias'$"):
        mesh.load_weights(bundle, ["bias"])
    with pytest.raises(
        BackendError, match=r"\.tensorbin: weight 'wrong shape': expected bfloat8_b \[32, 32\], seen bfloat8_b\["
    ):
        mesh.load_weights(bundle, ["wrong shape"])
    with pytest.raises(BackendError, match=r"weight 'wrong dtype': expected bfloat16 \[64, 64\], seen bfloat8_b\["):
        mesh.load_weights(bundle, ["wrong dtype"])
    with pytest.raises(BackendError, match=r"\.tensorbin: weight 'broken' cannot be loaded: "):
        mesh.load_weights(bundle, ["broken"])
    for path in (tmp_path / "b" / "weights").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BundleError, match=r"\.tensorbin: expected \d+ bytes, seen 0"):
        mesh.load_weights(bundle, ["w"])
    write_bundle(tmp_path / "torch")
    with pytest.raises(BackendError, match=r"torch: weight 'scale' has no tensor file; compile the bundle for ttnn"):
        mesh.load_weights(Bundle.open(tmp_path / "torch"), ["scale"])
    assert used() == before


@pytest.mark.mesh
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_that_are_none_are_seen_on_any_chip(dtype: str) -> None:
    """Of tensors on the host, which keep their numbers; a read from a mock mesh gives zeros, which are finite."""
    layout = spec([64, 256], dtype, rows=Placement(0, 32), columns=Placement(1, 32))
    array = np.ones((64, 256), np.float32)
    assert backend().nonfinite(split(array, layout, MESH)) == []
    array[40, 130] = np.inf
    assert backend().nonfinite(split(array, layout, MESH)) == ["inf"]
    array[3, 255], array[63, 0] = np.nan, -np.inf
    assert backend().nonfinite(split(array, layout, MESH)) == ["-inf", "NaN", "inf"]
    assert backend().nonfinite(backend().upload(array, layout)) == []


@pytest.mark.mesh
def test_whole_numbers_are_finite() -> None:
    layout = spec([64, 256], "uint32", "row_major")
    assert backend().nonfinite(split(np.full((64, 256), 2**31 - 1, np.int32), layout, MESH)) == []
