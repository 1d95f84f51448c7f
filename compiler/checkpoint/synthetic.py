"""Writes a whole checkpoint of seeded weights, of any size, in either layout.

One seed gives the same parameters in both layouts: the two checkpoints are the same model.
"""

from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint.naming import parameter_shapes
from mochi_aot.compiler.checkpoint.parameter_writer import (
    SHARD_BYTES,
    Parameters,
    Progress,
    plan,
    write_parameters,
)
from mochi_aot.compiler.checkpoint.seeded import seeded_parameter
from mochi_aot.compiler.reference.config import MochiConfig


def write_checkpoint(
    path: Path,
    config: MochiConfig,
    layout: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    replace: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda nbytes: None,
) -> None:
    """Write a checkpoint of `config` with seeded weights to folder `path`, as `write_parameters` does."""
    read = seeded_parameters(config, seed)
    write_parameters(path, config, layout, read, dtype, replace, shard_bytes=shard_bytes, progress=progress)


def checkpoint_bytes(config: MochiConfig, layout: str, dtype: torch.dtype) -> int:
    """Return the bytes of all weights of the checkpoint that write_checkpoint would write."""
    components = plan(config, layout, seeded_parameters(config, 0), dtype)
    return sum(tensor.nbytes for tensors in components.values() for tensor in tensors)


def seeded_parameters(config: MochiConfig, seed: int) -> Parameters:
    """Return the seeded parameters of `config`, float32, by canonical name."""
    shapes = parameter_shapes(config)
    return lambda name: seeded_parameter(name, shapes[name], seed)
