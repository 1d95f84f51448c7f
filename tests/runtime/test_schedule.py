"""The sigma schedule against diffusers and against its definition."""

from typing import Any

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.schedule import default_linear_steps, free_sigmas, linear_quadratic_sigmas

# Both work in float64 and round to float32 in [0, 1]: one rounding each, so half a float32 step (6e-8) apart twice.
TOLERANCE = 1.2e-7


@pytest.mark.parametrize(
    ("steps", "threshold", "linear"), [(64, 0.025, None), (8, 0.1, 6), (2, 0.025, None), (33, 0.025, None), (7, 0.3, 5)]
)
def test_equals_diffusers_schedule(steps: int, threshold: float, linear: int | None) -> None:
    theirs = [*linear_quadratic_schedule(steps, threshold, linear), 0.0]
    np.testing.assert_allclose(linear_quadratic_sigmas(steps, threshold, linear), theirs, rtol=0, atol=TOLERANCE)


def test_equals_the_scheduler_of_diffusers_pipeline() -> None:
    """diffusers holds 1 - sigma; its steps are ours with the sign turned."""
    scheduler: Any = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(64, 0.025)))
    ours = linear_quadratic_sigmas(64)
    np.testing.assert_allclose(1.0 - ours, scheduler.sigmas.numpy(), rtol=0, atol=2 * TOLERANCE)
    np.testing.assert_allclose((1.0 - ours[:-1]) * 1000, scheduler.timesteps.numpy(), rtol=0, atol=2000 * TOLERANCE)


def test_one_step_goes_all_the_way() -> None:
    sigmas = linear_quadratic_sigmas(1)
    assert sigmas.tolist() == [1.0, 0.0]
    assert sigmas.dtype == np.float32
    assert default_linear_steps(1) is None


@given(st.integers(2, 200), st.floats(0.001, 0.999), st.data())
def test_falls_from_one_to_zero_or_says_why_not(steps: int, threshold: float, data: st.DataObject) -> None:
    linear = data.draw(st.integers(1, steps - 1))
    try:
        sigmas = linear_quadratic_sigmas(steps, threshold, linear)
    except OptionError as error:
        assert "does not fall" in str(error)
        # r'(N) = t/L + 2 (L - t N) / (L (N - L)) is negative only if t (N + L) > 2 L; the margin is for rounding.
        assert threshold * (steps + linear) > 2 * linear * (1 - 1e-9)
        return
    assert sigmas.shape == (steps + 1,)
    assert sigmas[0] == 1.0 and sigmas[-1] == 0.0
    assert np.all(np.diff(sigmas) < 0)
    assert abs(sigmas[linear] - (1 - threshold)) < TOLERANCE


@pytest.mark.parametrize(
    ("steps", "threshold", "linear", "message"),
    [
        (0, 0.025, None, "steps is 0, expected 1 or more"),
        (8, 0.0, None, "threshold noise is 0, expected a number between 0 and 1"),
        (8, 1.0, None, "threshold noise is 1, expected a number between 0 and 1"),
        (8, float("nan"), None, "threshold noise is nan"),
        (8, 0.1, 8, "linear steps is 8, expected 1 to 7"),
        (8, 0.1, 0, "linear steps is 0, expected 1 to 7"),
        (1, 0.1, 1, "a single step has no linear part"),
        (100, 0.025, 1, "use a threshold below 0.0198"),
    ],
)
def test_values_out_of_range(steps: int, threshold: float, linear: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        linear_quadratic_sigmas(steps, threshold, linear)


@pytest.mark.parametrize(
    ("given_", "whole"),
    [
        ([1.0, 0.5, 0.0], (1.0, 0.5, 0.0)),  # as Genmo's pipelines take it
        ([1.0, 0.5], (1.0, 0.5, 0.0)),  # as diffusers' schedulers take it
        ([0.25], (0.25, 0.0)),
        ([1, 0], (1.0, 0.0)),
    ],
)
def test_free_sigmas(given_: list[float], whole: tuple[float, ...]) -> None:
    assert free_sigmas(given_) == whole


@pytest.mark.parametrize("wrong", [[], [0.0], [1.5, 0.5], [0.5, 0.5], [0.2, 0.4], [1.0, -0.5], [1.0, float("nan")]])
def test_sigmas_that_do_not_fall_from_1_to_0(wrong: list[float]) -> None:
    with pytest.raises(OptionError, match=r"^sigmas (is .*, expected numbers that fall|has no step)"):
        free_sigmas(wrong)
    with pytest.raises(OptionError, match="expected numbers that fall"):
        free_sigmas([0.5, 0.5 - 1e-12])  # one number in float32
