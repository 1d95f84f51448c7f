"""Rotary frequencies in float32, where a checkpoint has them so in any of its files.

An angle is a frequency times up to a hundred positions, which is too much for the eight bits of bfloat16: Genmo's own
code warns of frequencies that are not float32. Variants of the weights in bfloat16 often lie beside those in float32.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile

PARAMETER = "dit.pos_frequencies"
FLOAT32 = "F32"
# By how much of a number storing may change it: rounding to bfloat16 by at most 2^-8, cutting it off by 2^-7. Of eight
# bits, three or two are the mantissa's. q8_0 has eight bits for the largest of 32 numbers.
_CHANGE = {"BF16": 2.0**-7, "F16": 2.0**-7, "F8_E4M3": 2.0**-3, "F8_E5M2": 2.0**-2, "Q8_0": 2.0**-7}
_SMALLEST = {"F8_E4M3": 2.0**-9, "F8_E5M2": 2.0**-16}  # steps between the numbers nearest to zero


def use_float32(component: Component, key: str, folders: Iterable[Path]) -> str | None:
    """Have `component` read tensor `key` in float32 from another file of `folders`, if its own has it in less.

    Only one that rounds to the component's own counts. Return what is to be said of it, None where all is well.
    """
    info, file = component.info(key), component.file(key)
    if info.dtype == FLOAT32:
        return None
    seen = f"{file.path}: {key} is {STORED[info.dtype].name}"
    own = file.read_rows(key, 0, info.shape[0]).float()
    for other in _others(folders, file.path):
        found = other.tensors.get(key)
        if found is None or (found.dtype, found.shape) != (FLOAT32, info.shape):
            continue
        if _same(own, other.read_rows(key, 0, info.shape[0]), info.dtype):
            component.take(key, other)
            return f"{seen}; the float32 one in {other.path} is used"
    measured = " (a step changes by about 0.3 % on seeded weights)" if info.dtype == "BF16" else ""
    return f"{seen}, and no file beside it has it in float32: positions lose precision{measured}"


def _same(own: torch.Tensor, exact: torch.Tensor, dtype: str) -> bool:
    """Return whether frequencies that were stored as `dtype` may have been the exact ones."""
    smallest = float(exact.abs().max()) / 127 if dtype == "Q8_0" else _SMALLEST.get(dtype, 0.0)
    return torch.allclose(own, exact, rtol=_CHANGE[dtype], atol=smallest)


def _others(folders: Iterable[Path], own: Path) -> Iterator[TensorFile]:
    """Yield the readable safetensors files of the folders."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors")) if path != own):
        try:
            yield TensorFile(path)
        except CheckpointError:
            continue  # no file of this checkpoint
