"""Makes parameters' bytes from their recipes, one device's piece at a time, and names them."""

import hashlib
import itertools
from typing import Protocol

import numpy as np
import torch

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.writer import BundleWriter
from mochi_aot.compiler.ir.program import Checkpoint, Concat, Constant, Param, Recipe
from mochi_aot.compiler.ir.text import constant_key
from mochi_aot.compiler.ir.types import Shard, TensorType
from mochi_aot.compiler.partition.mesh import Mesh

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int32": torch.int32,
    "bool": torch.bool,
    "uint8": torch.uint8,
}


class Source(Protocol):
    """Where checkpoint tensors come from: part of one, by canonical name."""

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor: ...


def weight_name(param: Param) -> str:
    """The name of a parameter in the bundle: its recipe, cuts and dtype, so that equal weights have equal names."""
    return _named(param.recipe, param.value.type)


def _named(recipe: Recipe, type: TensorType) -> str:
    if isinstance(recipe, Concat):
        parts = [_named(part, part_type) for part, part_type in recipe.parts]
        digest = hashlib.sha256("\n".join([str(recipe.dim), *parts]).encode()).hexdigest()[:16]
        return f"{parts[0]}+{len(parts) - 1}:{digest}"
    cuts = "".join(f"/{a}:{p.dim}:{p.chunk}" for a, p in enumerate(type.placements) if isinstance(p, Shard))
    return f"{_origin(recipe)}{cuts}/{type.dtype}"


def _origin(recipe: Recipe) -> str:
    if isinstance(recipe, Constant):
        return f"constant:{constant_key(recipe.array)}"
    assert isinstance(recipe, Checkpoint)  # Computed ones were folded into constants, Concat has no name of its own
    return recipe.name


class WeightWriter:
    """Writes parameters into a bundle; asked for the same weight again, it does nothing."""

    def __init__(self, writer: BundleWriter, source: Source, mesh: Mesh) -> None:
        self._writer, self._source, self._mesh = writer, source, mesh
        self._written: set[str] = set()

    def add(self, param: Param) -> None:
        """Writes the parameter's distinct shards, one at a time."""
        name, type = weight_name(param), param.value.type
        if name not in self._written:
            self._written.add(name)
            self._writer.add_weight(schema.Weight(name, type.dtype, list(type.local_shape), self._add_shards(param)))

    def _add_shards(self, param: Param) -> list[int]:
        axes = cut_axes(param.recipe, param.value.type)
        made: dict[tuple[int, ...], int] = {}
        shards = []
        for device in itertools.product(*map(range, self._mesh)):
            coordinates = tuple(c if axis in axes else 0 for axis, c in enumerate(device))
            if coordinates not in made:
                piece = local_tensor(param.recipe, param.value.type, coordinates, self._source)
                data = piece.contiguous().reshape(-1).view(torch.uint8)
                made[coordinates] = self._writer.add_shard(data.numpy())
            shards.append(made[coordinates])
        return shards


def cut_axes(recipe: Recipe, type: TensorType) -> set[int]:
    """Mesh axes along which devices hold different pieces."""
    axes = {axis for axis, placement in enumerate(type.placements) if isinstance(placement, Shard)}
    if isinstance(recipe, Concat):
        axes |= {axis for part, part_type in recipe.parts for axis in cut_axes(part, part_type)}
    return axes


def local_tensor(recipe: Recipe, type: TensorType, coordinates: tuple[int, ...], source: Source) -> torch.Tensor:
    """What the device at `coordinates` holds of a parameter: local shape, the type's dtype, zeros in the padding."""
    if isinstance(recipe, Concat):
        return torch.cat([local_tensor(part, t, coordinates, source) for part, t in recipe.parts], dim=recipe.dim)
    index = local_index(type, coordinates)
    if isinstance(recipe, Constant):
        tensor = torch.from_numpy(np.array(recipe.array[index], order="C"))
    else:
        assert isinstance(recipe, Checkpoint)
        tensor = source.read(recipe.name, index)
    return _padded(tensor.to(DTYPES[type.dtype]), type.local_shape)


def local_index(type: TensorType, coordinates: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of the global tensor that a device holds, clipped to the logical size."""
    parts = [slice(0, size) for size in type.shape]
    for coordinate, placement in zip(coordinates, type.placements, strict=True):
        if isinstance(placement, Shard):
            outer = parts[placement.dim]
            start = min(outer.start + coordinate * placement.chunk, outer.stop)
            parts[placement.dim] = slice(start, min(start + placement.chunk, outer.stop))
    return tuple(parts)


def _padded(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(tensor.shape) == shape:
        return tensor
    padded = torch.zeros(shape, dtype=tensor.dtype)
    padded[tuple(slice(n) for n in tensor.shape)] = tensor
    return padded
