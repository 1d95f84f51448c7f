"""Makes parameters' bytes from their recipes, for one device or several at once, and names them."""

import hashlib
import itertools
from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np
import torch

from mochi_aot.artifacts.versions import installed_version
from mochi_aot.compiler.ir.program import VALUES, Checkpoint, Concat, Constant, Param, Quantised, Recipe
from mochi_aot.compiler.ir.types import Shard, TensorType
from mochi_aot.compiler.lower.float8 import quantised
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES

CONSTANT = "constant:"  # begins the names of weights that the compiler computes
SCALED_ROWS = 128  # of a matrix that are read at a time for their scales: at most 8192 numbers each, 4 MiB in float32
BLOCK_BYTES = 4 << 20  # of the checkpoint that are read at a time: they stay in the processor's cache until copied

Coordinates = tuple[int, ...]


class Source(Protocol):
    """Where checkpoint tensors come from: part of one, by canonical name."""

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor: ...


class KnownSource(Source, Protocol):
    """A Source that says what a name stands for: a tensor's dtype and shape, and a hash of all of its numbers."""

    def fingerprint(self, name: str) -> str: ...


def weight_name(param: Param) -> str:
    """Return the name of a parameter in the bundle: its recipe, cuts and dtype, so that equal weights have equal
    names."""
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
        return f"{CONSTANT}{recipe.key}"
    if isinstance(recipe, Quantised):
        return recipe.name if recipe.part == VALUES else f"{recipe.name}:{recipe.part}"
    assert isinstance(recipe, Checkpoint)  # Computed ones were folded into constants, Concat has no name of its own
    return recipe.name


def weight_source(name: str, recipe: Recipe, mesh: Mesh, source: KnownSource, *tools: str) -> str:
    """Return what the weight `name` is made of and how, as a hash: equal ones have equal bytes.

    It covers every number of the checkpoint's tensors. `tools` are the packages that made it, besides this one.
    """
    made_by = [f"{tool} {installed_version(tool)}" for tool in ("mochi-aot", *tools)]
    lines = [*made_by, str(mesh), name, *map(source.fingerprint, checkpoint_names(recipe))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def checkpoint_names(recipe: Recipe) -> list[str]:
    """Return the checkpoint's tensors that a recipe reads, in order."""
    if isinstance(recipe, Concat):
        return [name for part, _ in recipe.parts for name in checkpoint_names(part)]
    return [recipe.name] if isinstance(recipe, Checkpoint | Quantised) else []


def distinct_coordinates(recipe: Recipe, type: TensorType, mesh: Mesh) -> tuple[list[Coordinates], list[int]]:
    """Return the devices that hold different pieces of a parameter, and for each device of the mesh which of them it is
    as."""
    axes = cut_axes(recipe, type)
    found: dict[Coordinates, int] = {}
    indices = []
    for device in itertools.product(*map(range, mesh)):
        coordinates = tuple(c if axis in axes else 0 for axis, c in enumerate(device))
        indices.append(found.setdefault(coordinates, len(found)))
    return list(found), indices


def cut_axes(recipe: Recipe, type: TensorType) -> set[int]:
    """Return the mesh axes along which devices hold different pieces."""
    axes = {axis for axis, placement in enumerate(type.placements) if isinstance(placement, Shard)}
    if isinstance(recipe, Concat):
        axes |= {axis for part, part_type in recipe.parts for axis in cut_axes(part, part_type)}
    return axes


def local_tensor(recipe: Recipe, type: TensorType, coordinates: Coordinates, source: Source) -> torch.Tensor:
    """Return what the device at `coordinates` holds of a parameter: local shape, the type's dtype, zeros in the
    padding."""
    out = torch.empty(type.local_shape, dtype=TORCH_DTYPES[type.dtype])
    fill(recipe, type, [coordinates], [out], source)
    return out


def fill(
    recipe: Recipe, type: TensorType, devices: Sequence[Coordinates], outs: Sequence[torch.Tensor], source: Source
) -> None:
    """Make what several devices hold of a parameter, each in its tensor of `outs`, reading the checkpoint once."""
    if isinstance(recipe, Concat):
        start = 0
        for part, part_type in recipe.parts:
            size = part_type.local_shape[recipe.dim]
            fill(part, part_type, devices, [out.narrow(recipe.dim, start, size) for out in outs], source)
            start += size
        return
    indices = [local_index(type, coordinates) for coordinates in devices]
    for index, out in zip(indices, outs, strict=True):
        if any(s.stop - s.start != n for s, n in zip(index, type.local_shape, strict=True)):
            out.zero_()
    if isinstance(recipe, Constant):
        for index, out in zip(indices, outs, strict=True):
            tensor = torch.from_numpy(np.array(recipe.array[index], order="C"))
            out[tuple(slice(n) for n in tensor.shape)].copy_(tensor)
        return
    assert isinstance(recipe, Checkpoint | Quantised)
    if not type.shape:
        for out in outs:
            out.copy_(source.read(recipe.name))
        return
    _fill_rows(recipe, type, indices, outs, source)


def _fill_rows(
    recipe: Checkpoint | Quantised,
    type: TensorType,
    indices: list[tuple[slice, ...]],
    outs: Sequence[torch.Tensor],
    source: Source,
) -> None:
    """Read each run of rows that some device holds once, a block at a time, and deal it out."""
    by_rows: dict[tuple[int, int], list[tuple[tuple[slice, ...], torch.Tensor]]] = {}
    for index, out in zip(indices, outs, strict=True):
        by_rows.setdefault((index[0].start, index[0].stop), []).append((index[1:], out))
    scales = isinstance(recipe, Quantised) and recipe.part != VALUES
    count = SCALED_ROWS if scales else max(BLOCK_BYTES // (4 * max(prod(type.shape[1:]), 1)), 1)
    for (first, last), takers in by_rows.items():
        for start in range(first, last, count):
            stop = min(start + count, last)
            block = _block(recipe, start, stop, source)
            for rest, out in takers:
                kept = tuple(slice(s.stop - s.start) for s in rest)
                out[(slice(start - first, stop - first), *kept)].copy_(block[(slice(None), *rest)])


def _block(recipe: Checkpoint | Quantised, start: int, stop: int, source: Source) -> torch.Tensor:
    """Return rows of the global tensor that a recipe makes. What is quantised is the checkpoint's own number, and rows
    are read whole: devices that hold pieces of one have one scale."""
    rows = source.read(recipe.name, (slice(start, stop),))
    if isinstance(recipe, Checkpoint):
        return rows
    values, scales = quantised(rows)
    return values if recipe.part == VALUES else scales


def local_index(type: TensorType, coordinates: Coordinates) -> tuple[slice, ...]:
    """Return the part of the global tensor that a device holds, clipped to the logical size."""
    parts = [slice(0, size) for size in type.shape]
    for coordinate, placement in zip(coordinates, type.placements, strict=True):
        if isinstance(placement, Shard):
            outer = parts[placement.dim]
            start = min(outer.start + coordinate * placement.chunk, outer.stop)
            parts[placement.dim] = slice(start, min(start + placement.chunk, outer.stop))
    return tuple(parts)
