"""Writes safetensors files tensor by tensor, so that memory is that of one tensor however large the file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from mochi_aot.artifacts.safetensors_header import LENGTH_BYTES, NOT_A_TENSOR
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED

ALIGNMENT = 8  # bytes; the header is padded with spaces, as the format's own writer does

_SAFETENSORS = {stored.dtype: name for name, stored in STORED.items() if stored.decode is None}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written; `make` is called when its turn comes and must give exactly this shape and dtype."""

    key: str
    shape: Shape
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(path: Path, tensors: Sequence[Tensor]) -> None:
    """Write one file: the widest dtype first, which keeps every tensor aligned, else in the order given."""
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    header: dict[str, object] = {NOT_A_TENSOR: {"format": "pt"}}  # transformers reads no file without this
    offset = 0
    for tensor in ordered:
        header[tensor.key] = {
            "dtype": _SAFETENSORS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(LENGTH_BYTES, "little"))
        file.write(encoded)
        for tensor in ordered:
            value = tensor.make()
            if value.shape != tensor.shape or value.dtype != tensor.dtype:
                raise ValueError(f"{tensor.key}: made {value.dtype} {tuple(value.shape)}, promised {tensor}")
            file.write(memoryview(value.reshape(-1).view(torch.uint8).numpy()))


def write_sharded(folder: Path, stem: str, tensors: Sequence[Tensor], shard_bytes: int) -> None:
    """Write `STEM.safetensors`, or shards of at most `shard_bytes` (or one tensor) and their index if it is larger."""
    shards = split(tensors, shard_bytes)
    if len(shards) == 1:
        write_tensors(folder / f"{stem}.safetensors", shards[0])
        return
    names = [f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)},
        "weight_map": {tensor.key: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
    }
    for name, shard in zip(names, shards, strict=True):
        write_tensors(folder / name, shard)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def split(tensors: Sequence[Tensor], shard_bytes: int) -> list[list[Tensor]]:
    """Return consecutive runs of tensors of at most `shard_bytes` each; a larger tensor has a run of its own."""
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards
