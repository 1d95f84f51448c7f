"""Which checkpoint this is: the model's sizes and every number of it."""

import hashlib
from collections.abc import Mapping

from mochi_aot.compiler.reference.config import MochiConfig


def identity(config: MochiConfig, fingerprints: Mapping[str, str]) -> str:
    """Return the sha256 (hex) over the sizes, and over every parameter's canonical name, dtype, shape and contents.

    It depends neither on where the checkpoint lies nor on how it is laid out in files: one model has one identity.
    """
    lines = [repr(config), *(f"{name} {fingerprint}" for name, fingerprint in sorted(fingerprints.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
