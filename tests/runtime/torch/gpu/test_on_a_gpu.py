"""What other tests ask of stand-ins, asked of a GPU: to be run by whoever has one.

float32 against float64, or against the CPU's float32: sums in another order are off by a few 2^-24 of their terms.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mochi_aot.artifacts import Bundle
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.torch import TorchBackend, float8
from mochi_aot.runtime.torch.executor import TorchExecutable
from mochi_aot.runtime.torch.gpu.device import choose_gpu, fastest_attention
from mochi_aot.runtime.torch.gpu.graph import CudaRecorder, RecordedExecutable
from mochi_aot.runtime.torch.gpu.uploads import CudaCopier, Ring, Uploads
from mochi_aot.runtime.torch.kernels import KERNELS
from mochi_aot.runtime.torch.mesh import Mesh
from tests.runtime import toy_bundle
from tests.runtime.torch.attention_by_rows import joint_attention, mask_of, operands
from tests.runtime.torch.gpu.test_gpu_backend import video
from tests.runtime.torch.gpu.test_graph import NAMES, TEXT, VISUAL, attending
from tests.runtime.torch.programs import normal

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_every_byte_arrives() -> None:
    """Buffers of 1 MiB, each of which is filled many times while copies run."""
    device = choose_gpu()
    ring = Ring(CudaCopier(device), chunk_bytes=1 << 20, slots=2)
    sources = [torch.randint(0, 256, (int(size * (1 << 20)),), dtype=torch.uint8) for size in (0.5, 1, 30.3)]
    for source in sources:
        out, ticket = ring.send(source)
        ticket.hand_over(out)
        assert torch.equal(out.cpu(), source)


def test_uploads_while_a_stream_computes() -> None:
    """Memory that is freed and given out again at once, between uploads and products."""
    device = choose_gpu()
    uploads = Uploads(CudaCopier(device), chunk_bytes=1 << 16)
    pending = [uploads.begin(lambda i=i: [torch.full((512, 512), float(i))]) for i in range(64)]  # type: ignore[misc]
    ones = torch.ones(512, 512, device=device)
    sums = []
    for upload in pending:
        (weight,) = upload.value()
        sums.append((weight @ ones)[0, 0])
        del weight
    assert [float(x) for x in sums] == [512.0 * i for i in range(64)]
    uploads.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(dtype: torch.dtype) -> None:
    tensors, mask = operands(VISUAL, TEXT, dtype), mask_of(TEXT, [1, 4], [])
    choose_gpu()
    with fastest_attention():
        made = KERNELS["joint_attention"]({"scale": 0.4})(*(x.cuda() for x in [*tensors, mask]))
    for actual, expected in zip(made, joint_attention(tensors, mask, 0.4), strict=True):
        tolerance = 1e-5 if dtype is torch.float32 else 2.0**-6
        torch.testing.assert_close(actual.cpu().double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("units", [True, False])
def test_float8(units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the GPU's own units, and as GPUs without them do it: beside float64 with the same numbers. Results are rounded
    to bfloat16 once, 2^-8, or twice; sums of 256 products in float32 are off by 2^-16 of the largest."""
    device = choose_gpu()
    if not units:
        monkeypatch.setattr(float8, "has_float8", lambda device: False)
    elif not float8.has_float8(device):
        pytest.skip("needs compute capability 8.9")
    x, w, b = normal(0, 2, 40, 256, dtype=torch.bfloat16), normal(1, 64, 256), normal(2, 64, dtype=torch.bfloat16)
    (values, row_scales), (matrix, scales) = float8.quantised(x.reshape(-1, 256)), float8.quantised(w)
    expected = (values.double() * row_scales) @ (matrix.double() * scales).T + b.double()
    made = KERNELS["linear_float8"]({})(*(part.to(device) for part in (x, matrix, scales[:, 0], b)))
    bound = (1 if units else 2) * 2.0**-8 * expected.abs() + 2.0**-16 * expected.abs().max()
    # Where a scale is rounded otherwise, a few numbers of its row are too.
    assert float(((made.cpu().double().view(expected.shape) - expected).abs() > bound).double().mean()) < 0.01


def test_a_recording() -> None:
    """Prompts of the same length share it, one of another length has its own, and what it took is given back."""
    device, sample = choose_gpu(), attending()
    executable = RecordedExecutable(TorchExecutable(sample, Mesh(1, 1), {}), sample, CudaRecorder(device))
    masks = [mask_of(TEXT, *rows) for rows in (([0, 1], [0]), ([2, 4], [3]), ([0, 1, 2, 3, 4], []))]
    for round_, mask in enumerate(masks * 4):
        tensors = [x * (1 + round_ / 16) for x in operands(VISUAL, TEXT)]
        inputs = {name: [x.to(device)] for name, x in zip(NAMES, [*tensors, mask], strict=True)}
        (made,) = executable.run(inputs)["latents"]
        expected, _ = joint_attention(tensors, mask, 0.4)
        # Scores are up to some tens, of which a 2^-24 is an error of their exponentials.
        torch.testing.assert_close(made.cpu().double(), expected, rtol=0, atol=1e-4)
    assert len(executable._recordings) == 2
    executable.release()


def test_videos(tmp_path: Path) -> None:
    """The toy's programs are sums and products of a few numbers: the frames are the CPU's."""
    toy_bundle.write_bundle(tmp_path / "b", mesh=(1, 1))
    bundle = Bundle.open(tmp_path / "b")
    pipelines = [Pipeline(bundle, TorchBackend(1, 1, device)) for device in ("cuda", "cpu")]
    for prompt in ("a red fox", "red red red"):
        (latents, frames), (expected, expected_frames) = (video(pipeline, prompt) for pipeline in pipelines)
        np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)
        assert np.abs(frames.astype(int) - expected_frames).max() <= 1
    for pipeline in pipelines:
        pipeline.close()
