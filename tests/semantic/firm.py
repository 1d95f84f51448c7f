"""What a video shows whatever machine made it: sums in another order, as other processors make them, change levels.

A measure may lie so near its threshold that such a change makes another shape of it. What is seen is firm if all of
MARGINS see the same; only that can be expected of a second machine.
"""

from collections.abc import Callable
from unittest import mock

import numpy as np

from mochi_aot.tools.training import semantics
from mochi_aot.tools.training.semantics import Observation, observe

# By which thresholds are multiplied. Between bfloat16 and float32 the measures of shape of the 32 held-out prompts'
# videos, with 12 steps, differ by at most 0.13 of their thresholds.
MARGINS = (0.85, 1.0, 1.2)
THRESHOLDS = ("MOVED", "GROWN", "TURNED", "BOUNCED", "RING_SPREAD", "TRIANGLE_HARMONIC", "SQUARE_HARMONIC")


def firmly_seen(frames: np.ndarray) -> Observation | None:
    """Return what frames uint8 [F, H, W, 3] show; None if it hangs on a threshold."""
    seen = {_with_thresholds(factor, lambda: observe(frames)) for factor in MARGINS}
    return seen.pop() if len(seen) == 1 else None


def check_same_scenes(got: np.ndarray, wanted: np.ndarray) -> None:
    """Assert of videos uint8 [n, F, H, W, 3] that each shows what the wanted one shows firmly, as half of them must."""
    firm = [(frames, firmly_seen(other)) for frames, other in zip(got, wanted, strict=True)]
    compared = [(observe(frames), expected) for frames, expected in firm if expected is not None]
    assert 2 * len(compared) >= len(firm), "most of the wanted videos show nothing clearly"
    assert all(seen == expected for seen, expected in compared), compared


def _with_thresholds(factor: float, measure: Callable[[], Observation]) -> Observation:
    with mock.patch.multiple(semantics, **{name: factor * getattr(semantics, name) for name in THRESHOLDS}):
        return measure()
