"""What must hold for all meshes, plans and geometries, drawn at random: the bundle computes what the reference does."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mochi_aot.artifacts import Bundle
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.partition.plans import DECODER_PLANS, ENCODER_PLANS, TRANSFORMER_PLANS
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.runtime.targets import open_backend
from mochi_aot.runtime.tensor_files import Embedding
from tests.reference_run import Reference, relative_error
from tests.test_meshes import ENCODER_TOLERANCE, PIXEL_TOLERANCE, TOLERANCE, rows_do_not_divide

# Both axes up to 8 devices; the tiny model's 8 heads divide by every one of these.
meshes = st.tuples(st.sampled_from((1, 2, 4, 8)), st.sampled_from((1, 2, 4, 8)))
geometries = st.builds(
    Geometry,
    height=st.integers(1, 4).map(lambda n: 16 * n),
    width=st.integers(1, 4).map(lambda n: 16 * n),
    frames=st.integers(0, 3).map(lambda n: 6 * n + 1),
)
plans = st.tuples(*(st.sampled_from(sorted(family)) for family in (TRANSFORMER_PLANS, DECODER_PLANS)))
SIGMAS = linear_quadratic_sigmas(2)


@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mesh=meshes, geometry=geometries, names=plans, tokens=st.integers(0, 256), seed=st.integers(0, 99))
def test_bundle_equals_reference(tiny_checkpoint, mesh, geometry, names, tokens, seed):
    config = tiny_checkpoint.config
    encoder = (names[1],) if names[1] in ENCODER_PLANS else ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        assume(not rows_do_not_divide(mesh, names[0]))
        try:
            compile_bundle(tiny_checkpoint, Job(mesh, (geometry,), names, "float32", with_encoder=True), path)
        except GeometryError as error:
            # The one reason that these sizes leave: pieces of the video too short for a convolution's neighbours.
            assert re.search(r"wants \d+ frames or more; the nearest that works is \d+x\d+x\d+$", str(error))
            assert not list(Path(folder).iterdir())
            return
        bundle = Bundle.open(path)
        assert bundle.program("encode", bundle.manifest.geometries[0]).plan in (encoder or ENCODER_PLANS)
        pipeline = Pipeline(bundle, open_backend(bundle, "cpu"))
        reference = Reference(tiny_checkpoint, geometry)
        shape = (1, 12, *geometry.latent_size(config))
        noise = seeded_latents(seed, shape)
        embeds = np.random.default_rng(seed).standard_normal((1, 256, config.dit.caption_width)).astype(np.float32)
        positive, negative = (Embedding(embeds, np.arange(256)[None] < n) for n in (tokens, tokens // 3))
        conditioning = pipeline.condition(positive, negative, SIGMAS, 3.0, pipeline.geometry())
        expected = reference.denoise(noise, positive, negative, SIGMAS, 3.0)
        assert relative_error(pipeline.denoise(noise, conditioning), expected) < TOLERANCE
        frames, wanted = pipeline.decode(noise, pipeline.geometry()), reference.decode(noise)
        assert np.abs(frames.astype(int) - wanted).max() <= PIXEL_TOLERANCE
        latents, wanted = pipeline.encode(frames, pipeline.geometry()), reference.encode(frames)
        assert relative_error(latents, wanted) < ENCODER_TOLERANCE
