"""A LoRA with seeded numbers, of attention's matrices, as Genmo's fine-tuner writes one."""

from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint.tensor_writer import Tensor, write_tensors
from mochi_aot.compiler.reference.config import DiTConfig

DEVIATION = 0.02  # of the numbers of both factors


def write_seeded_lora(path: Path, config: DiTConfig, rank: int, seed: int) -> None:
    """Write factors in bfloat16, the same on every machine; their products count once."""
    generator, tensors = torch.Generator().manual_seed(seed), list[Tensor]()
    for block in range(config.layers):
        for layer, (out, size) in _layers(config, last=block == config.layers - 1).items():
            for half, shape in (("A", (rank, size)), ("B", (out, rank))):
                values = (torch.randn(shape, generator=generator) * DEVIATION).bfloat16()
                key = f"blocks.{block}.attn.{layer}.lora_{half}"
                tensors.append(Tensor(key, shape, values.dtype, values.clone))
    write_tensors(path, tensors)


def _layers(config: DiTConfig, last: bool) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of the layers that Genmo's fine-tuner adapts; the last block has no text after it."""
    sizes = {
        "qkv_x": (3 * config.width, config.width),
        "qkv_y": (3 * config.width, config.text_width),
        "proj_x": (config.width, config.width),
    }
    return sizes if last else {**sizes, "proj_y": (config.text_width, config.width)}
