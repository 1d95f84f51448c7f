"""The checkpoint that comes with the package: a small Mochi that draws moving shapes, in Genmo's layout, bfloat16."""

import shutil
from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.parameter_writer import Progress, plan, write_parameters

SHAPES = Path(__file__).parent / "shapes"
CARD = "README.md"


def shapes_bytes(layout: str, dtype: torch.dtype) -> int:
    """Bytes of all weights that `write_shapes` would write."""
    checkpoint = open_checkpoint(SHAPES)
    components = plan(checkpoint.config, layout, checkpoint.read, dtype)
    return sum(tensor.nbytes for tensors in components.values() for tensor in tensors)


def write_shapes(
    out: Path, layout: str, dtype: torch.dtype, replace: bool = False, progress: Progress = lambda nbytes: None
) -> None:
    """Write the checkpoint that comes with the package, and its card, to folder `out` in either layout.

    Raises CheckpointError as `write_parameters` does.
    """
    checkpoint = open_checkpoint(SHAPES)
    tokenizer = checkpoint.tokenizer_json()
    write_parameters(
        out, checkpoint.config, layout, checkpoint.read, dtype, replace, tokenizer_json=tokenizer, progress=progress
    )
    shutil.copyfile(SHAPES / CARD, out / CARD)
