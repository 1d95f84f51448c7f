"""Every mesh and plan equals the reference, through a bundle on disk and the runtime.

Awkward on purpose: 45 visual tokens, 3 latent frames and 6 x 10 latent pixels divide by none of the larger axes, a
prompt of one token and one of all 256, an empty negative prompt.
"""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler import compile as compiling
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.plans import DECODER_PLANS, ENCODER_PLANS, TEXT_PLANS, TRANSFORMER_PLANS
from mochi_aot.compiler.passes.strips import in_strips
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError
from mochi_aot.runtime.ledger import READ, Ledger
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.targets import open_backend
from mochi_aot.runtime.tensor_files import Embedding
from mochi_aot.runtime.weight_reader import WeightReader
from tests.reference_run import Reference, pcc, relative_error

MESHES = ((1, 1), (1, 2), (2, 2), (2, 4), (1, 8), (4, 8))
GEOMETRY = Geometry(48, 80, 13)
SIGMAS = linear_quadratic_sigmas(4)
GUIDANCE = 4.5
# float32 keeps 7 digits; sums over at most 512 terms in another order, through 2 blocks and 4 guided steps (each
# multiplies an error by at most 2 * GUIDANCE), stay within 1e-4 of the largest value.
TOLERANCE = 1e-4
# The encoder begins with sines of angles up to 2^7 * 2 pi. Float32 holds such an angle to 6e-5, and both sides round it
# on their way: features differ by up to 1.2e-4. Beside float64 the reference itself is off by up to 1e-4.
ENCODER_TOLERANCE = 3e-4
# A frame's value is rounded to an integer: an error of 1e-4 can move it to a neighbour, never further.
PIXEL_TOLERANCE = 1


# 6 latent frames, and one, of the same size.
LONGER, ONE_FRAME = Geometry(48, 80, 31), Geometry(48, 80, 1)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Checkpoint) -> Reference:
    return Reference(tiny_checkpoint, GEOMETRY)


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Tracing does not depend on mesh or plan: all bundles of this file share one trace a dtype."""
    traced = {}

    def cached(config, geometry, dtype, source, pipeline, with_encoder, text_dtype):
        key = (geometry, dtype, with_encoder, text_dtype)
        if key not in traced:
            traced[key] = build_programs(config, geometry, dtype, source, pipeline, with_encoder, text_dtype)
        return traced[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "build_programs", cached)
        yield


@pytest.fixture(scope="module")
def prompts(tiny_checkpoint: Checkpoint) -> dict[str, Embedding]:
    """Embeddings by how many tokens are attended."""
    config = tiny_checkpoint.config
    rng = np.random.default_rng(5)

    def prompt(tokens: int) -> Embedding:
        embeds = rng.standard_normal((1, config.text_length, config.dit.caption_width)).astype(np.float32)
        return Embedding(embeds, np.arange(config.text_length)[None] < tokens)

    return {name: prompt(n) for name, n in (("empty", 0), ("one", 1), ("some", 11), ("all", config.text_length))}


PAIRS = (("one", "empty"), ("all", "some"))


@pytest.fixture(scope="module")
def noise(tiny_checkpoint: Checkpoint) -> np.ndarray:
    return seeded_latents(3, (1, 12, *GEOMETRY.latent_size(tiny_checkpoint.config)))


@pytest.fixture(scope="module")
def expected_latents(reference, prompts, noise) -> dict[tuple[str, str], np.ndarray]:
    return {(p, n): reference.denoise(noise, prompts[p], prompts[n], SIGMAS, GUIDANCE) for p, n in PAIRS}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(6)
    return rng.integers(0, 256, (GEOMETRY.frames, GEOMETRY.height, GEOMETRY.width, 3), np.uint8)


def opened(
    path: Path,
    checkpoint: Checkpoint,
    mesh: tuple[int, int],
    plans: tuple[str, ...],
    dtype: str = "float32",
    geometry: Geometry = GEOMETRY,
    with_encoder: bool = False,
) -> Pipeline:
    compile_bundle(checkpoint, Job(mesh, (geometry,), plans, dtype, with_encoder=with_encoder), path)
    bundle = Bundle.open(path)
    return Pipeline(bundle, open_backend(bundle, "cpu"))


@pytest.mark.parametrize(
    ("mesh", "plan"), [((1, 8), "sp1tp0"), ((2, 4), "sp1tp0"), ((1, 8), "sp0tp1")], ids=["replicated", "2x4", "1x8"]
)
def test_weights_are_read_once_for_all_devices(mesh, plan, tmp_path, tiny_checkpoint):
    compile_bundle(tiny_checkpoint, Job(mesh, (GEOMETRY,), (plan,), "float32"), tmp_path / "b")
    bundle, ledger = Bundle.open(tmp_path / "b"), Ledger()
    reader = WeightReader(bundle, ledger)
    reader.plan(bundle.weights)
    for name in bundle.weights:
        reader.wait(name)
    read = sum(span.nbytes for span in ledger.spans if span.name == READ)
    distinct = sum(shard.nbytes for shard in bundle.manifest.shards)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "b/weights").iterdir())
    assert distinct <= read <= on_disk  # in between: what shards leave of their last page


def cases(family):
    """Every mesh with every plan of a family."""
    return [pytest.param(mesh, plan, id=f"{mesh[0]}x{mesh[1]}-{plan}") for mesh in MESHES for plan in family]


def rows_do_not_divide(mesh: tuple[int, int], plan: str) -> bool:
    """Whether a plan cuts the two rows of guidance over more devices."""
    return plan.startswith("gp") and mesh[int(plan[2])] > 2


@pytest.mark.parametrize(("mesh", "plan"), cases(TRANSFORMER_PLANS))
def test_latents_after_guided_steps(mesh, plan, tmp_path, tiny_checkpoint, prompts, noise, expected_latents):
    if rows_do_not_divide(mesh, plan):
        with pytest.raises(PlanError, match=r"dimension 0 of \[2, .* does not divide by the \d devices"):
            opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
        return
    pipeline = opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
    for (positive, negative), expected in expected_latents.items():
        conditioning = pipeline.condition(prompts[positive], prompts[negative], SIGMAS, GUIDANCE, pipeline.geometry())
        assert relative_error(pipeline.denoise(noise, conditioning), expected) < TOLERANCE


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4), (4, 8)])
def test_bfloat16_latents_and_frames(mesh, tmp_path, tiny_checkpoint, reference, prompts, noise, expected_latents):
    pipeline = opened(tmp_path / "b", tiny_checkpoint, mesh, (), "bfloat16")
    for (positive, negative), expected in expected_latents.items():
        conditioning = pipeline.condition(prompts[positive], prompts[negative], SIGMAS, GUIDANCE, pipeline.geometry())
        assert pcc(pipeline.denoise(noise, conditioning), expected) >= 0.999
    assert pcc(pipeline.decode(noise, pipeline.geometry()), reference.decode(noise)) >= 0.999


def too_short_in_time(mesh: tuple[int, int], plan: str) -> bool:
    """3 latent frames over more than 2 devices leave pieces of one frame; a convolution needs two of its neighbour."""
    axis = int(plan[plan.index("t") + 1]) if "t" in plan else None
    return axis is not None and mesh[axis] > 2


@pytest.mark.parametrize(("mesh", "plan"), cases(DECODER_PLANS))
def test_decoded_frames(mesh, plan, tmp_path, tiny_checkpoint, reference, noise):
    if too_short_in_time(mesh, plan):
        with pytest.raises(GeometryError, match=r"wants \d+ frames or more; the nearest that works is"):
            opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
        return
    pipeline = opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
    check_frames(pipeline.decode(noise, pipeline.geometry()), reference.decode(noise))


def check_frames(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= PIXEL_TOLERANCE
    assert expected.std() > 10  # a picture, not a grey field that anything would match


def check_decoder(path: Path, checkpoint: Checkpoint, mesh: tuple[int, int], plan: str, geometry: Geometry) -> None:
    """Of a video other than the rest of this file has."""
    noise = seeded_latents(4, (1, 12, *geometry.latent_size(checkpoint.config)))
    pipeline = opened(path, checkpoint, mesh, (plan,), geometry=geometry)
    expected = Reference(checkpoint, geometry).decode(noise)
    check_frames(pipeline.decode(noise, pipeline.geometry()), expected)
    assert len(expected) == geometry.frames


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")
@pytest.mark.parametrize("plan", ["h0w1", "w0h1"])
def test_a_video_of_one_frame(mesh, plan, tmp_path, tiny_checkpoint):
    check_decoder(tmp_path / "b", tiny_checkpoint, mesh, plan, ONE_FRAME)


@pytest.mark.parametrize(("mesh", "plan"), [((2, 3), "h0t1"), ((3, 2), "t0w1"), ((2, 2), "w0t1")])
def test_a_longer_video_cut_in_time(mesh, plan, tmp_path, tiny_checkpoint):
    check_decoder(tmp_path / "b", tiny_checkpoint, mesh, plan, LONGER)


@pytest.mark.parametrize("strip", [1, 2, 3, 5])
@pytest.mark.parametrize(("mesh", "plan"), [((1, 1), "h0w1"), ((2, 4), "w0h1")])
def test_frames_in_strips(mesh, plan, strip, tmp_path, tiny_checkpoint, monkeypatch):
    """The torch target has no need of strips; here it runs what the ttnn target makes of a decoder."""

    def fitted(_: TorchTarget, program: Program, *__: object) -> Program:
        return in_strips(program, "latent_video", strip) if program.name == "decode" else program

    monkeypatch.setattr(TorchTarget, "fitted", fitted)
    check_decoder(tmp_path / "b", tiny_checkpoint, mesh, plan, LONGER)


@pytest.mark.parametrize(("mesh", "plan"), cases(ENCODER_PLANS))
def test_encoded_video(mesh, plan, tmp_path, tiny_checkpoint, reference, frames):
    pipeline = opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,), with_encoder=True)
    assert relative_error(pipeline.encode(frames, pipeline.geometry()), reference.encode(frames)) < ENCODER_TOLERANCE


@pytest.mark.parametrize(("mesh", "plan"), cases(TEXT_PLANS))
def test_encoded_text(mesh, plan, tmp_path, tiny_checkpoint, reference):
    heads, pieces = tiny_checkpoint.config.text.num_heads, int(np.prod([mesh[int(a)] for a in plan if a.isdigit()]))
    if heads % pieces:
        with pytest.raises(PlanError, match="8 does not divide by the devices that share it"):
            opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
        return
    pipeline = opened(tmp_path / "b", tiny_checkpoint, mesh, (plan,))
    for prompt in ("", "fox", "a quiet river under the old bridge"):
        embedding = pipeline.encode_prompt(prompt)
        ids, mask = pipeline.tokenizer.encode(prompt) if prompt else (np.zeros((1, 256), np.int32), embedding.mask)
        assert relative_error(embedding.embeds, reference.encode_text(ids, mask)) < TOLERANCE
