"""Programs that run while their weights are being read."""

import threading
from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.runtime import weight_reader
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pages import read_in
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.runtime.weight_reader import WeightReader
from tests.artifacts.samples import write_bundle
from tests.runtime import toy_bundle
from tests.runtime.torch.programs import instruction, program, spec

ROLES = ("encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode")


class SlowDisk:
    """Reads a piece for each permit; `read` is what it has read, by offset."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.read: list[int] = []

    def __call__(self, view: memoryview, path: Path, offset: int) -> None:
        assert self.permits.acquire(timeout=30)
        read_in(view, path, offset)
        self.read.append(offset)


def sample(pipeline: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    geometry = pipeline.geometry()
    prompt, nothing = pipeline.encode_prompt("a red fox"), pipeline.encode_prompt("")
    conditioning = pipeline.condition(prompt, nothing, linear_quadratic_sigmas(4, 0.025, 2), 4.5, geometry)
    latents = pipeline.denoise(seeded_latents(7, pipeline.latent_shape(geometry)), conditioning)
    return latents, pipeline.decode(latents, geometry)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(weight_reader, "_BLOCK_BYTES", 4096)  # each shard by itself
    toy_bundle.write_bundle(tmp_path / "b", mesh=(1, 2))
    return Bundle.open(tmp_path / "b")


def test_the_text_encoder_runs_before_the_transformer_is_read(bundle: Bundle) -> None:
    disk = SlowDisk()
    reader = WeightReader(bundle, read=disk)
    pipeline = Pipeline(bundle, TorchBackend(1, 2), reader)
    pipeline.read_ahead(ROLES, pipeline.geometry())
    disk.permits.release()
    embeds = pipeline.encode_prompt("a red fox")
    assert len(disk.read) == 1
    assert {"first program", "first weight"} == pipeline.ledger.marks.keys()
    ids = np.array([[3, 4, 5, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(embeds.embeds, toy_bundle.expected_embeds(ids, ids > 0))
    disk.permits.release(100)
    sample(pipeline)
    assert len(disk.read) == len(set(disk.read)) == len(toy_bundle.WEIGHTS)


def test_the_same_bits_as_when_all_is_read_first(bundle: Bundle) -> None:
    disk = SlowDisk()
    streamed = Pipeline(bundle, TorchBackend(1, 2), WeightReader(bundle, read=disk))
    streamed.read_ahead(ROLES, streamed.geometry())
    threading.Timer(0.05, disk.permits.release, [100]).start()
    latents, frames = sample(streamed)
    reader = WeightReader(bundle)
    pipeline = Pipeline(bundle, TorchBackend(1, 2), reader)
    pipeline.read_ahead(ROLES, pipeline.geometry())
    for name in toy_bundle.WEIGHTS:
        reader.wait(name)
    again, frames_again = sample(pipeline)
    assert latents.tobytes() == again.tobytes() and frames.tobytes() == frames_again.tobytes()
    assert np.array_equal(sample(streamed)[0], latents)  # with weights that were released in between


def test_instructions_run_up_to_the_weight_that_is_awaited(tmp_path: Path) -> None:
    """y = x * scale, then z = y * copy: `copy` is asked for once the first product is there."""
    write_bundle(tmp_path / "b")
    bundle, backend = Bundle.open(tmp_path / "b"), TorchBackend(1, 2)
    shape = spec([4, 3])
    two = program(
        {"x": shape},
        ["copy", "scale"],
        {"z": (4, shape)},
        [instruction("mul", [0, 2], [3], []), instruction("mul", [3, 1], [4], [3])],
    )
    asked: list[str] = []
    backend.load_weights(bundle, ["copy", "scale"], asked.append)
    assert asked == []
    executable = backend.load_program(two)
    x = backend.upload(np.ones((4, 3), np.float32), shape)
    executable.run({"x": x})
    assert asked == ["scale", "copy"]
    executable.run({"x": x})
    assert asked == ["scale", "copy"]


def test_a_disk_that_fails_ends_the_run_with_one_error(bundle: Bundle) -> None:
    def fail(view: memoryview, path: Path, offset: int) -> None:
        raise OSError(5, "Input/output error")

    pipeline = Pipeline(bundle, TorchBackend(1, 2), WeightReader(bundle, read=fail))
    pipeline.read_ahead(ROLES, pipeline.geometry())
    with pytest.raises(BundleError, match=r"Input/output error; copy or compile the bundle again$"):
        pipeline.encode_prompt("a red fox")
