"""A TorchBackend as it is with a GPU, of which memory, recording and streams are replaced by the host's."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mochi_aot.artifacts import Bundle
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError, DeviceMemoryError, NumbersError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.runtime.torch import backend as backend_module
from mochi_aot.runtime.torch.gpu.device import GpuExecutable, choose_gpu, fastest_attention, full_precision
from mochi_aot.runtime.torch.gpu.uploads import Uploads
from mochi_aot.runtime.torch.types import Value
from mochi_aot.runtime.torch.weights import Weights
from tests.runtime import toy_bundle
from tests.runtime.torch.gpu.copiers import LateCopier
from tests.runtime.torch.gpu.test_fusion import PLAIN
from tests.runtime.torch.gpu.test_graph import FakeGraph


class Streams:
    """In the place of torch.cuda's."""

    def __init__(self) -> None:
        self.waits = 0

    def synchronize(self) -> None:
        self.waits += 1


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    made = Streams()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: made)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    toy_bundle.write_bundle(tmp_path / "b", mesh=(1, 1))
    return Bundle.open(tmp_path / "b")


def on_gpu(monkeypatch: pytest.MonkeyPatch, graph: FakeGraph) -> TorchBackend:
    monkeypatch.setattr(backend_module, "CudaRecorder", lambda device: graph)
    monkeypatch.setattr(backend_module, "gpu_kernels", lambda: PLAIN)
    backend = TorchBackend(1, 1)
    backend.on_host = False
    backend._uploads = Uploads(LateCopier(), chunk_bytes=16)
    backend._weights = Weights((0,), backend._uploads)
    return backend


def video(pipeline: Pipeline, prompt: str) -> tuple[np.ndarray, np.ndarray]:
    geometry = pipeline.geometry()
    prompts = pipeline.encode_prompt(prompt), pipeline.encode_prompt("")
    conditioning = pipeline.condition(*prompts, linear_quadratic_sigmas(5, 0.025, 2), 4.5, geometry)
    latents = pipeline.denoise(seeded_latents(7, pipeline.latent_shape(geometry)), conditioning)
    return latents, pipeline.decode(latents, geometry)


def test_videos(bundle: Bundle, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps: the second one is recorded, and it and those after it are repeated; the next video begins anew."""
    graph = FakeGraph()
    pipeline, plain = Pipeline(bundle, on_gpu(monkeypatch, graph)), Pipeline(bundle, TorchBackend(1, 1))
    for number, prompt in enumerate(("a red fox", "red red red"), start=1):
        for made, expected in zip(video(pipeline, prompt), video(plain, prompt), strict=True):
            np.testing.assert_array_equal(made, expected)
        assert (graph.recorded, graph.replayed) == (number, 4 * number)
    assert streams.waits > 10  # each run of a program, at its end
    pipeline.close()


def test_who_looks_at_values_sees_every_instruction(
    bundle: Bundle, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no recording: that has none."""
    graph = FakeGraph()
    pipeline = Pipeline(bundle, on_gpu(monkeypatch, graph), check_values=True)
    geometry = pipeline.geometry()
    nan = np.full(pipeline.latent_shape(geometry), np.nan, np.float32)
    prompt = pipeline.encode_prompt("")
    conditioning = pipeline.condition(prompt, prompt, linear_quadratic_sigmas(2, 0.025, 1), 4.5, geometry)
    with pytest.raises(NumbersError, match=r"program 'denoise' in step 1 of 2, instruction \d+ \(.*: mul is the first"):
        pipeline.denoise(nan, conditioning)
    assert graph.recorded == 0
    pipeline.close()


class Failing:
    """An executable that fails as torch does."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. More words"),
            DeviceMemoryError,
            "^program 'x' failed: CUDA out of",
        ),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nmore"), BackendError, "launch failure$"),
    ],
)
def test_what_fails_outside_of_instructions(
    streams: Streams, error: Exception, kind: type[BackendError], message: str
) -> None:
    executable = Failing(error)
    with pytest.raises(kind, match=message):
        GpuExecutable(executable, executable, "x", torch.device("cpu")).run({})


def test_attention_in_the_order_that_is_asked() -> None:
    order = torch._C._get_sdp_priority_order()
    with fastest_attention():
        assert torch._C._get_sdp_priority_order()[0] == int(torch.nn.attention.SDPBackend.CUDNN_ATTENTION)
    assert torch._C._get_sdp_priority_order() == order


def test_float32_is_float32() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_tf32 = cudnn.allow_tf32 = matmul.allow_bf16_reduced_precision_reduction = True
    full_precision()
    assert not (matmul.allow_tf32 or cudnn.allow_tf32 or matmul.allow_bf16_reduced_precision_reduction)
    matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_bf16_reduced_precision_reduction = before


def test_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(chosen=None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: setattr(fake, "chosen", index))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: fake.chosen)
    assert choose_gpu(1) == torch.device("cuda", 1)
    message = "^device cuda: process 2 of this host wants a GPU of its own, and there are 2$"
    with pytest.raises(BackendError, match=message):
        choose_gpu(2)
