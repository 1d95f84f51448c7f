"""The noise schedule against diffusers' copy of Genmo's."""

import numpy as np
import pytest
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

from mochi_aot.compiler.reference.schedule import linear_quadratic_sigmas


@pytest.mark.parametrize("steps, threshold, linear", [(64, 0.025, None), (8, 0.1, 6), (2, 0.025, 1), (7, 0.5, 3)])
def test_equals_diffusers(steps, threshold, linear):
    sigmas = linear_quadratic_sigmas(steps, threshold, linear)
    assert sigmas.dtype == np.float32 and len(sigmas) == steps + 1
    np.testing.assert_allclose(sigmas[:-1], linear_quadratic_schedule(steps, threshold, linear), rtol=0, atol=1e-7)
    assert sigmas[0] == 1.0 and sigmas[-1] == 0.0


def test_falls_all_the_way():
    assert (np.diff(linear_quadratic_sigmas(64)) < 0).all()
