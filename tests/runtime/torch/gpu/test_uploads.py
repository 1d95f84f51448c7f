"""The ring of buffers, with copies that happen as late as a GPU may do them: a buffer filled too early would show."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mochi_aot.artifacts import Bundle
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.runtime.torch.gpu.uploads import Ring, Uploads
from mochi_aot.runtime.torch.weights import Weights
from tests.runtime import toy_bundle
from tests.runtime.torch.gpu.copiers import LateCopier


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 100])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_every_byte_arrives_in_its_place(count: int, slots: int) -> None:
    copier = LateCopier()
    ring = Ring(copier, chunk_bytes=16, slots=slots)
    for seed in (1, 2):  # the second tensor finds buffers that the first one still has to be copied from
        source = torch.arange(seed, seed + count, dtype=torch.float32)
        out, ticket = ring.send(source)
        ticket.hand_over(out)
        assert torch.equal(out, source)
    assert copier.largest <= 16
    assert copier.buffers <= slots


def test_tensors_that_follow_each_other_do_not_wait() -> None:
    copier = LateCopier()
    ring = Ring(copier, chunk_bytes=8, slots=4)
    sources = [torch.full((2,), float(i)) for i in range(4)]
    sent = [ring.send(source) for source in sources]
    assert len(copier.begun) == 4  # none was waited for: there was a buffer for each
    ring.send(torch.zeros(2))
    assert len(copier.begun) == 4  # the first one was, for its buffer
    for (out, ticket), source in zip(sent, sources, strict=True):
        ticket.hand_over(out)
        assert torch.equal(out, source)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int32, torch.float32])
def test_any_dtype_and_shape(dtype: torch.dtype) -> None:
    copier = LateCopier()
    ring = Ring(copier, chunk_bytes=8)
    for shape in ((), (5,), (3, 4, 2)):
        source = torch.ones(shape).to(dtype)
        out, ticket = ring.send(source)
        ticket.hand_over(out)
        assert out.dtype is dtype and torch.equal(out, source)


def test_replicas_are_sent_once_and_stay_one_tensor() -> None:
    copier = LateCopier()
    uploads = Uploads(copier, chunk_bytes=64)
    shared, other = torch.ones(4), torch.zeros(4)
    value = uploads.begin(lambda: [shared, other, shared]).value()
    assert value[0] is value[2] and value[0] is not shared
    assert torch.equal(value[0], shared) and torch.equal(value[1], other)
    uploads.close()


def test_what_fails_is_raised_where_the_value_is_asked_for() -> None:
    uploads = Uploads(LateCopier())

    def fail() -> list[torch.Tensor]:
        raise BundleError("a byte is not there")

    failing, following = uploads.begin(fail), uploads.begin(lambda: [torch.ones(1)])
    with pytest.raises(BundleError, match=r"^a byte is not there$"):
        failing.value()
    assert following.value()[0].item() == 1
    uploads.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    toy_bundle.write_bundle(tmp_path / "b", mesh=(1, 1))
    return Bundle.open(tmp_path / "b")


def test_freed_weights_are_not_waited_for(bundle: Bundle) -> None:
    """The thread waits for `text`, which comes; the others, which nobody may wait for any more, it never asks for."""
    asked: list[str] = []
    waiting, there = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        asked.append(name)
        waiting.set()
        assert there.wait(30)

    weights = Weights((0,), Uploads(LateCopier()))
    for name in ("text", "w_dit", "w_vae"):
        weights.load(bundle, name, wait)
    assert waiting.wait(30)
    threading.Timer(0.05, there.set).start()
    weights.free(["w_vae", "text", "w_dit"])
    assert there.is_set()  # what had begun is over
    weights.load(bundle, "w_dit", lambda name: None)
    assert weights["w_dit"][0].item() == 0.5
    assert asked == ["text"]
    assert list(weights) == ["w_dit"]


def test_a_video_by_weights_that_were_sent(bundle: Bundle) -> None:
    """The same bits as by weights that are views of the file, in all phases, each of which frees the others'."""

    def video(backend: TorchBackend) -> tuple[np.ndarray, np.ndarray]:
        pipeline = Pipeline(bundle, backend)
        geometry = pipeline.geometry()
        prompts = pipeline.encode_prompt("a red fox"), pipeline.encode_prompt("")
        conditioning = pipeline.condition(*prompts, linear_quadratic_sigmas(4, 0.025, 2), 4.5, geometry)
        latents = pipeline.denoise(seeded_latents(7, pipeline.latent_shape(geometry)), conditioning)
        return latents, pipeline.decode(latents, geometry)

    backend, copier = TorchBackend(1, 1), LateCopier()
    backend._weights = Weights((0,), Uploads(copier, chunk_bytes=16))
    for sent, mapped in zip(video(backend), video(TorchBackend(1, 1)), strict=True):
        assert np.array_equal(sent, mapped)
    assert copier.buffers > 0
