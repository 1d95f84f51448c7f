"""Mochi's noise schedule: sigma falls from 1 slowly along a line, then to 0 along a parabola."""

from collections.abc import Sequence

import numpy as np

from mochi_aot.runtime.defaults import DEFAULT_THRESHOLD_NOISE
from mochi_aot.runtime.errors import OptionError


def default_linear_steps(steps: int) -> int | None:
    """Return half of the steps; None for a single step, which has no linear part."""
    return steps // 2 if steps > 1 else None


def linear_quadratic_sigmas(
    steps: int, threshold_noise: float = DEFAULT_THRESHOLD_NOISE, linear_steps: int | None = None
) -> np.ndarray:
    """Return sigmas, float32 [steps + 1]: 1 first, 0 last, falling.

    Source: the linear-quadratic schedule of Genmo's Mochi 1 inference code. With N steps of which L are linear and
    threshold t, the removed noise r(i) = 1 - sigma(i) is t*i/L up to i = L; from there it is the only parabola that
    continues with the same value and slope and has r(N) = 1:

        r(i) = t + (t/L) * (i - L) + a * (i - L)^2,    a = (L - t*N) / (L * (N - L)^2)

    One step has no parts: its sigmas are 1 and 0. Raise OptionError for values outside of these ranges: steps >= 1,
    0 < threshold_noise < 1, 1 <= linear_steps < steps, and for combinations whose parabola overshoots 0.
    """
    _check_ranges(steps, threshold_noise, linear_steps)
    linear = default_linear_steps(steps) if linear_steps is None else linear_steps
    if linear is None:
        return np.array([1.0, 0.0], dtype=np.float32)
    index = np.arange(steps + 1, dtype=np.float64)
    line = index * (threshold_noise / linear)
    curvature = (linear - threshold_noise * steps) / (linear * (steps - linear) ** 2)
    parabola = line + curvature * (index - linear) ** 2
    removed = np.where(index <= linear, line, parabola)
    removed[-1] = 1.0  # exactly, whatever the rounding above
    if not np.all(np.diff(removed) > 0):
        raise OptionError(
            f"threshold noise {threshold_noise:g} with {linear} linear of {steps} steps makes a schedule that does not "
            f"fall from 1 to 0; use a threshold below {2 * linear / (steps + linear):.4g} or more linear steps"
        )
    return (1.0 - removed).astype(np.float32)


def free_sigmas(values: Sequence[float]) -> tuple[float, ...]:
    """Return a schedule that somebody wrote down, ending in 0: one sigma before each step, and one after the last.

    A list that does not end in 0 is taken as diffusers takes it, whose schedulers put the 0 behind it; Genmo's lists
    have the 0. Raise OptionError unless the numbers fall, in float32 too, from at most 1 to 0, in at least one step.
    """
    whole = tuple(map(float, values))
    if whole and whole[-1] != 0.0:
        whole = (*whole, 0.0)
    if len(whole) < 2:
        raise OptionError("sigmas has no step; give at least one number above 0")
    with np.errstate(over="ignore"):  # infinity is above 1
        exact = np.array(whole, np.float32)
    if not (exact[0] <= 1.0 and np.all(np.diff(exact) < 0)):
        shown = ",".join(f"{value:g}" for value in whole)
        raise OptionError(f"sigmas is {shown}, expected numbers that fall with each step, from 1 or less to 0")
    return whole


def _check_ranges(steps: int, threshold_noise: float, linear_steps: int | None) -> None:
    if steps < 1:
        raise OptionError(f"steps is {steps}, expected 1 or more")
    if not 0.0 < threshold_noise < 1.0:
        raise OptionError(f"threshold noise is {threshold_noise:g}, expected a number between 0 and 1, both excluded")
    if linear_steps is None:
        return
    if steps == 1:
        raise OptionError(f"linear steps is {linear_steps}, but a single step has no linear part; leave it out")
    if not 1 <= linear_steps < steps:
        raise OptionError(f"linear steps is {linear_steps}, expected 1 to {steps - 1} (below steps, {steps})")
