"""Starting noise. It is made on the host, so a seed means the same video on every target and mesh."""

from collections.abc import Sequence

import numpy as np

MAX_SEED = 2**63 - 1


def seeded_latents(seed: int, shape: Sequence[int]) -> np.ndarray:
    """Return standard normal noise, float32 of `shape`, from numpy's Philox generator keyed by `seed` (0 to MAX_SEED).

    The bit stream of Philox is fixed; numpy may in principle change how normal numbers are drawn from it, and a test
    with literal values would show that.
    """
    return np.random.Generator(np.random.Philox(seed)).standard_normal(tuple(shape), dtype=np.float32)
