"""Rotary frequencies in float32, where a checkpoint has them so in any of its files.

An angle is a frequency times up to a hundred positions, which is too much for the eight bits of bfloat16: Genmo's own
code warns of frequencies that are not float32. Variants of the weights in bfloat16 often lie beside those in float32.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.tensor_file import DTYPE_NAMES, DTYPES, TensorFile

PARAMETER = "dit.pos_frequencies"
FLOAT32 = "F32"
# Rounding to bfloat16 changes a number by at most 2^-8 of it, cutting it off by 2^-7.
SAME = 2.0**-7


def use_float32(component: Component, key: str, folders: Iterable[Path]) -> str | None:
    """Have `component` read tensor `key` in float32 from another file of `folders`, if its own has it in less.

    Only one that rounds to the component's own counts. Return what is to be said of it, None where all is well.
    """
    info, file = component.info(key), component.file(key)
    if info.dtype == FLOAT32:
        return None
    seen = f"{file.path}: {key} is {DTYPE_NAMES[DTYPES[info.dtype]]}"
    own = file.read_rows(key, 0, info.shape[0]).float()
    for other in _others(folders, file.path):
        found = other.tensors.get(key)
        if found is None or (found.dtype, found.shape) != (FLOAT32, info.shape):
            continue
        if torch.allclose(own, other.read_rows(key, 0, info.shape[0]), rtol=SAME, atol=0.0):
            component.take(key, other)
            return f"{seen}; the float32 one in {other.path} is used"
    return (
        f"{seen}, and no file beside it has it in float32: positions lose precision "
        "(a step changes by about 0.3 % on seeded weights)"
    )


def _others(folders: Iterable[Path], own: Path) -> Iterator[TensorFile]:
    """Yield the readable safetensors files of the folders."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors")) if path != own):
        try:
            yield TensorFile(path)
        except CheckpointError:
            continue  # no file of this checkpoint
