"""The noise levels that the sampler visits."""

import numpy as np


def linear_quadratic_sigmas(steps: int, threshold_noise: float = 0.025, linear_steps: int | None = None) -> np.ndarray:
    """Return Genmo's sigmas: noise removed grows linearly to `threshold_noise` in `linear_steps`, then as a square to
    1.

    The quadratic part meets the line with the same value and slope. `linear_steps` is half the steps unless given, at
    least 1 and less than `steps`. Return float32 [steps + 1], from 1 to 0.
    """
    linear_steps = steps // 2 if linear_steps is None else linear_steps
    slope = threshold_noise / linear_steps
    quadratic_steps = steps - linear_steps
    curve = (1 - threshold_noise - slope * quadratic_steps) / quadratic_steps**2
    index = np.arange(steps)
    removed = slope * index + curve * np.maximum(index - linear_steps, 0) ** 2
    return np.append(1 - removed, 0).astype(np.float32)
