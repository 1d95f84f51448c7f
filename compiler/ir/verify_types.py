"""Checks of types and recipes. All raise ValueError saying what is wrong; IRError comes from the op table."""

from mochi_aot.artifacts.dtypes import DTYPES, PROGRAM_DTYPES
from mochi_aot.compiler.ir.ops import infer
from mochi_aot.compiler.ir.program import SCALES, VALUES, Concat, Constant, Quantised, Recipe
from mochi_aot.compiler.ir.text import type_text
from mochi_aot.compiler.ir.types import PARTIAL, Shard, TensorType


def check_type(type: TensorType, mesh: tuple[int, int] | None) -> None:
    """Check for a known dtype, no empty dimension, one placement per mesh axis, and pieces that cover what they cut."""
    if type.dtype not in PROGRAM_DTYPES:
        raise ValueError(f"dtype {type.dtype!r} is none of {', '.join(PROGRAM_DTYPES)}")
    if not all(size >= 1 for size in type.shape):
        raise ValueError(f"{type_text(type)} has an empty dimension")
    axes = 0 if mesh is None else len(mesh)
    if len(type.placements) != axes:
        found = len(type.placements)
        raise ValueError(f"{type_text(type)} has {found} placements; the program has {axes} mesh axes")
    for axis, placement in enumerate(type.placements):
        if isinstance(placement, Shard) and mesh is not None:
            _check_pieces(type, axis, placement, mesh[axis])


def _check_pieces(type: TensorType, axis: int, placement: Shard, pieces: int) -> None:
    dim, chunk = placement.dim, placement.chunk
    if not 0 <= dim < len(type.shape):
        raise ValueError(f"{type_text(type)} shards a dimension that it has not")
    size = extent(type, dim, axis)
    if axis == 1 and type.shard_axes(dim) == [0, 1] and (chunk < 1 or size % chunk):
        raise ValueError(f"{type_text(type)}: {size} is no multiple of {chunk}")
    if chunk * pieces < size:
        raise ValueError(f"{type_text(type)}: {pieces} pieces of {chunk} do not cover {size}")


def extent(type: TensorType, dim: int, axis: int) -> int:
    """Return the size that `axis` cuts: the whole dimension, or the piece that axis 0 made where axis 1 cuts within
    it."""
    outer = type.placements[0]
    if axis == 1 and isinstance(outer, Shard) and outer.dim == dim:
        return outer.chunk
    return type.shape[dim]


def check_argument(type: TensorType, mesh: tuple[int, int] | None) -> None:
    """Check that what crosses a program's border is whole or sharded."""
    check_type(type, mesh)
    if PARTIAL in type.placements:
        raise ValueError(f"{type_text(type)} is partial: inputs, params and outputs are whole or sharded")


def check_recipe(recipe: Recipe, type: TensorType, mesh: tuple[int, int] | None) -> None:
    """Check that constants and what is quantised have the type's shape and dtype, and that parts join to what a device
    holds."""
    if isinstance(recipe, Constant):
        held = DTYPES[type.dtype].held
        if recipe.array.shape != type.shape:
            raise ValueError(f"the constant's shape is {recipe.array.shape}, the type's {type.shape}")
        if recipe.array.dtype != held:
            raise ValueError(f"the constant is held as {recipe.array.dtype}, expected {held}")
    if isinstance(recipe, Quantised):
        _check_quantised(recipe, type)
    if isinstance(recipe, Concat):
        _check_parts(recipe, type, mesh)


def _check_quantised(recipe: Quantised, type: TensorType) -> None:
    expected = {VALUES: ("float8", 2), SCALES: ("float32", 1)}.get(recipe.part)
    if (type.dtype, len(type.shape)) != expected:
        raise ValueError(f"{recipe.part!r} of a quantised matrix is no {type_text(type)}")


def _check_parts(recipe: Concat, type: TensorType, mesh: tuple[int, int] | None) -> None:
    for part, part_type in recipe.parts:
        check_argument(part_type, mesh)
        check_recipe(part, part_type, mesh)
    ((joined, dtype),) = infer("concat", {"dim": recipe.dim}, [(t.local_shape, t.dtype) for _, t in recipe.parts])
    if (joined, dtype) != (type.local_shape, type.dtype):
        raise ValueError(f"the parts join to {dtype}{joined} on a device, not {type.dtype}{type.local_shape}")
