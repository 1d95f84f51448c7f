"""Bundles with the blocks' matrices in float8, through the runtime: beside the reference in float32, and each other."""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.ir.numpy_values import quantised
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.targets import open_backend
from mochi_aot.runtime.tensor_files import Embedding
from tests.reference_run import Reference
from tests.test_meshes import GEOMETRY, GUIDANCE, SIGMAS

# A rounding is off by up to 2^-4 of a power of two, and numbers evenly spread between two of them have a mean square of
# 7/3: their mean squared error is (2^-4)^2 / 3 of that. Of two operands, and of a sum of terms of random signs too:
PRODUCT_ERROR = 2.0**-4 / 7**0.5 * 2**0.5  # 0.033


@pytest.fixture(scope="module")
def prompts(tiny_checkpoint: Checkpoint) -> tuple[Embedding, Embedding]:
    """Of a prompt of 9 tokens, and of an empty one."""
    config, rng = tiny_checkpoint.config, np.random.default_rng(5)
    shape = (1, config.text_length, config.dit.caption_width)
    made = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
    positive, negative = (np.arange(config.text_length)[None] < count for count in (9, 0))
    return Embedding(made[0], positive), Embedding(made[1], negative)


@pytest.fixture(scope="module")
def noise(tiny_checkpoint: Checkpoint) -> np.ndarray:
    return seeded_latents(3, (1, 12, *GEOMETRY.latent_size(tiny_checkpoint.config)))


@pytest.fixture(scope="module")
def change(tiny_checkpoint: Checkpoint, prompts, noise) -> np.ndarray:
    """What the reference's steps add to the noise."""
    return Reference(tiny_checkpoint, GEOMETRY).denoise(noise, *prompts, SIGMAS, GUIDANCE) - noise


def denoised(bundle: Path, prompts: tuple[Embedding, Embedding], noise: np.ndarray) -> np.ndarray:
    opened = Bundle.open(bundle)
    pipeline = Pipeline(opened, open_backend(opened, "cpu"))
    conditioning = pipeline.condition(*prompts, SIGMAS, GUIDANCE, pipeline.geometry())
    return pipeline.denoise(noise, conditioning)


def compiled(checkpoint: Checkpoint, mesh: tuple[int, int], plan: str, folder: Path) -> Path:
    compile_bundle(checkpoint, Job(mesh, (GEOMETRY,), (plan,), weights_dtype="float8"), folder)
    return folder


@pytest.mark.parametrize(
    ("mesh", "plan"),
    [((1, 1), "sp1tp0"), ((2, 4), "sp1tp0"), ((2, 2), "gp0sp1fs0"), ((1, 3), "sp1")],
    ids=["1x1", "tensors", "gathered", "sequence"],
)
def test_guided_steps(mesh, plan, tiny_checkpoint, prompts, noise, change, tmp_path) -> None:
    """The steps' change is off by about what one product is: products follow each other, and are added to what there
    is. Less than half of that would not be float8; bfloat16 is off by 0.012."""
    made = denoised(compiled(tiny_checkpoint, mesh, plan, tmp_path / "b"), prompts, noise) - noise
    off = np.sqrt(np.square(made - change).mean() / np.square(change).mean())
    assert 0.5 * PRODUCT_ERROR < off < 2 * PRODUCT_ERROR


def test_guidance_on_two_halves_makes_the_same_latents(tiny_checkpoint, prompts, noise, change, tmp_path) -> None:
    """Each row of an operand has its own scale: whatever rows are beside it, its products are the same, but for the
    order of sums, which bfloat16 shows to 0.012."""
    one = denoised(compiled(tiny_checkpoint, (1, 1), "sp1tp0", tmp_path / "one"), prompts, noise)
    two = denoised(compiled(tiny_checkpoint, (1, 2), "gp1sp0", tmp_path / "two"), prompts, noise)
    assert np.sqrt(np.square(two - one).mean() / np.square(change).mean()) < 0.012


def test_what_the_bundle_holds(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """On each device of a mesh that cuts rows of one matrix and columns of another: its piece of the whole matrix's
    numbers, and scales of whole rows."""
    bundle = Bundle.open(compiled(tiny_checkpoint, (2, 2), "sp1tp0", tmp_path / "b"))
    codes = np.float32([code_value(code) for code in range(256)])
    down, proj = "dit.blocks.0.mlp_x.down.weight", "dit.blocks.1.attn.proj_x.weight"
    for matrix in (down, proj):
        numbers, scales = quantised(tiny_checkpoint.read(matrix).float().numpy())
        half = numbers.shape[1] // 2
        held = bundle.weights[f"{matrix}/0:1:{half}/float8"]
        assert held.dtype == "float8" and held.local_shape == [len(numbers), half]
        for device, shard in enumerate(held.shards):
            piece = codes[np.frombuffer(bundle.shard_bytes(shard), np.uint8)].reshape(held.local_shape)
            row = device // 2
            np.testing.assert_array_equal(piece, numbers[:, row * half : (row + 1) * half])
        row_scales = bundle.weights[f"{matrix}:scales/float32"]
        assert len(set(row_scales.shards)) == 1
        np.testing.assert_array_equal(np.frombuffer(bundle.shard_bytes(row_scales.shards[0]), np.float32), scales)
    assert bundle.manifest.weights_dtype == "float8" and bundle.manifest.dtype == "bfloat16"


def code_value(code: int) -> float:
    """The number that a byte of E4M3 stands for, by the format's definition; its NaN is left out."""
    sign, exponent, fraction = (-1) ** (code >> 7), (code >> 3) & 15, code & 7
    if exponent == 15 and fraction == 7:
        return np.nan
    return sign * (fraction / 8 * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7))


def test_nothing_in_float8_is_an_error() -> None:
    """Before any weight is written."""
    with pytest.raises(
        PlanError, match=r"of no matrix of the transformer's blocks a device of 3x5 holds a multiple of 16"
    ):
        TorchTarget("float8").check_programs(None, [], {}, (3, 5))  # type: ignore[arg-type]  # none is looked at
