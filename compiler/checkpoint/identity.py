"""Which checkpoint this is, without reading it all."""

import hashlib
from collections.abc import Iterable

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.reference.config import MochiConfig

SAMPLES = 4  # pieces of each tensor, which tell a fine-tune, or another seed, from its original
SAMPLE_BYTES = 4096


def identity(config: MochiConfig, components: Iterable[Component]) -> str:
    """sha256 (hex) over the sizes, and over every file's name, size, header and a few pieces of each tensor.

    It does not depend on where the checkpoint lies. It is not a check of integrity: most bytes are never read.
    """
    digest = hashlib.sha256(repr(config).encode())
    for component in sorted(components, key=lambda component: component.name):
        for file in sorted(component.files, key=lambda file: file.path.name):
            digest.update(f"{component.name}/{file.path.name} {file.nbytes}\n".encode())
            digest.update(file.header)
            for key in file.tensors:
                digest.update(tensor_identity(file, key).encode())
        for key, file in component.taken.items():
            digest.update(tensor_identity(file, key).encode())
    return digest.hexdigest()


def tensor_identity(file: TensorFile, key: str) -> str:
    """sha256 (hex) over a tensor's name, dtype, shape and a few pieces of its data."""
    info = file.tensors[key]
    digest = hashlib.sha256(f"{key} {info.dtype} {info.shape}\n".encode())
    for piece in file.sample(key, SAMPLES, SAMPLE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
