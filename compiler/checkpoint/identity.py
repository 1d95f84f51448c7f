"""Which checkpoint this is, without reading it all."""

import hashlib
from collections.abc import Iterable

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.reference.config import MochiConfig

SAMPLES = 64  # pieces of each file, which tell a fine-tune, or another seed, from its original
SAMPLE_BYTES = 4096


def identity(config: MochiConfig, components: Iterable[Component]) -> str:
    """sha256 (hex) over the sizes, and over every file's name, size, header and a few pieces of its data.

    It does not depend on where the checkpoint lies. It is not a check of integrity: most bytes are never read.
    """
    digest = hashlib.sha256(repr(config).encode())
    for component in sorted(components, key=lambda component: component.name):
        for file in sorted(component.files, key=lambda file: file.path.name):
            digest.update(f"{component.name}/{file.path.name} {file.nbytes}\n".encode())
            digest.update(file.header)
            for piece in file.sample(SAMPLES, SAMPLE_BYTES):
                digest.update(piece)
    return digest.hexdigest()
