"""The backend on a bundle: weights, uploads, fetches and a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.schema import Placement, TensorSpec
from mochi_aot.runtime.backend import Backend
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch import TorchBackend
from tests.artifacts.samples import LEFT, RIGHT, write_bundle
from tests.runtime.torch.programs import instruction, program, spec


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Weights over a 1x2 mesh: scale (two shards), copy (one shard on both devices), half (bfloat16)."""
    write_bundle(tmp_path / "sample.bundle")
    return Bundle.open(tmp_path / "sample.bundle")


def test_it_is_a_backend() -> None:
    backend: Backend = TorchBackend(1, 1)
    assert backend


@pytest.mark.filterwarnings("error")
def test_weights_are_the_mapped_file(bundle: Bundle) -> None:
    backend = TorchBackend(1, 2)
    backend.load_weights(bundle, ["scale", "copy", "half"])
    left, right = backend._weights["scale"]
    assert np.array_equal(left, LEFT)
    assert np.array_equal(right, RIGHT)
    address = np.frombuffer(bundle.shard_bytes(bundle.weights["scale"].shards[0]), np.float32).ctypes.data
    assert left.data_ptr() == address
    half, _ = backend._weights["half"]
    assert half.dtype is torch.bfloat16
    assert half.tolist() == [1.0, 0.0]


def test_replicas_share_a_tensor(bundle: Bundle) -> None:
    backend = TorchBackend(1, 2)
    backend.load_weights(bundle, ["copy"])
    assert backend._weights["copy"][0] is backend._weights["copy"][1]


def test_weights_outlive_the_bundle(bundle: Bundle) -> None:
    backend = TorchBackend(1, 2)
    backend.load_weights(bundle, ["scale"])
    del bundle
    assert np.array_equal(backend._weights["scale"][1], RIGHT)


def test_a_weight_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"sample.bundle: holds no weight 'bias'$"):
        TorchBackend(1, 2).load_weights(bundle, ["bias"])


def test_a_program_runs_until_its_weights_are_freed(bundle: Bundle) -> None:
    backend = TorchBackend(1, 2)
    executable = backend.load_program(bundle.program("denoise", bundle.manifest.geometries[0]))
    backend.load_weights(bundle, ["scale"])
    split, whole = (values[0].spec for values in (executable._program.inputs, executable._program.outputs))
    latents = np.arange(24, dtype=np.float32).reshape(4, 6)
    outputs = executable.run({"latents": backend.upload(latents, split)})
    expected = latents * np.concatenate([LEFT, RIGHT], 1)
    assert np.array_equal(backend.fetch(outputs["latents"], whole), expected)
    backend.free_weights(["scale", "never loaded"])
    with pytest.raises(BackendError, match="weight 'scale' is not loaded"):
        executable.run({"latents": backend.upload(latents, split)})


@pytest.mark.parametrize(("dtype", "host"), [("float32", "f4"), ("int32", "i4"), ("bool", "?"), ("uint8", "u1")])
@pytest.mark.parametrize("placement", [None, Placement(1, 2)])
def test_what_is_uploaded_is_fetched(dtype: str, host: str, placement: Placement | None) -> None:
    array = np.arange(10).reshape(2, 5).astype(host)
    layout = spec([2, 5], dtype, columns=placement or Placement(1, 3))
    backend = TorchBackend(1, 3)
    value = backend.upload(array, layout)
    fetched = backend.fetch(value, layout)
    assert fetched.dtype == array.dtype
    assert np.array_equal(fetched, array)


def test_bfloat16_crosses_as_float32() -> None:
    backend, layout = TorchBackend(1, 1), spec([3], "bfloat16")
    value = backend.upload(np.array([1, 1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32), layout)
    assert value[0].dtype is torch.bfloat16
    fetched = backend.fetch(value, layout)
    assert fetched.dtype == np.float32
    assert fetched.tolist() == [1, 1, 1 + 2.0**-6]  # halves go to the even neighbour


def test_arrays_are_copied_in_and_out() -> None:
    backend, layout = TorchBackend(1, 1), spec([3])
    array = np.zeros(3, np.float32)
    value = backend.upload(array, layout)
    array[:] = 1
    fetched = backend.fetch(value, layout)
    fetched[:] = 2
    assert value[0].tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("error")
def test_any_array_can_be_uploaded() -> None:
    """Read-only, reversed, or not contiguous."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    backend = TorchBackend(1, 1)
    assert np.array_equal(backend.upload(array, spec([2, 3]))[0], array)
    assert np.array_equal(backend.upload(array.T[::-1], spec([3, 2]))[0], array.T[::-1])


@pytest.mark.parametrize(
    ("array", "seen"),
    [(np.zeros((3, 2), np.float32), r"float32\[3, 2\]"), (np.zeros((2, 3)), r"float64\[2, 3\]")],
)
def test_upload_of_another_shape_or_dtype(array: np.ndarray, seen: str) -> None:
    with pytest.raises(BackendError, match=r"^upload: expected float32\[2, 3\], seen " + seen):
        TorchBackend(1, 1).upload(array, spec([2, 3]))


def test_fetch_of_another_shape_or_mesh() -> None:
    backend = TorchBackend(1, 2)
    layout = TensorSpec("float32", [3], [2], [None, Placement(0, 2)])
    with pytest.raises(BackendError, match=r"^fetch: expected \[2\] on 2 devices, seen \[3\] on 2"):
        backend.fetch([torch.zeros(3)] * 2, layout)
    with pytest.raises(BackendError, match=r"^fetch: expected \[2\] on 2 devices, seen \[2\] on 1"):
        backend.fetch([torch.zeros(2)], layout)


def test_devices() -> None:
    with pytest.raises(BackendError, match=r"^device 'tpu': expected cpu or cuda"):
        TorchBackend(1, 1, "tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without a GPU")
def test_cuda_without_a_gpu() -> None:
    with pytest.raises(BackendError, match=r"^device cuda: torch finds no usable GPU here; use cpu"):
        TorchBackend(1, 1, "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_what_the_cpu_gives(bundle: Bundle) -> None:
    layout = spec([4, 6], columns=Placement(1, 3))
    sample = program({"x": layout}, ["scale"], {"y": (2, layout)}, [instruction("mul", [0, 1], [2], [0])])
    results: list[np.ndarray] = []
    for device in ("cpu", "cuda"):
        backend = TorchBackend(1, 2, device)
        backend.load_weights(bundle, ["scale"])
        outputs = backend.load_program(sample).run({"x": backend.upload(np.ones((4, 6), np.float32), layout)})
        results.append(backend.fetch(outputs["y"], layout))
    assert np.array_equal(results[0], results[1])
