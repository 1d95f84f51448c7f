"""What lowered instructions send over Ethernet. Bytes are those of cost.py's definition, of tensors as chips hold them:
in tiles, with the padding of tiles.

Each op is counted by what ttnn does for it. all_gather and reduce_scatter pass pieces on from neighbour to neighbour.
all_reduce is a reduce_scatter and an all_gather where some dimension, in tiles, divides by the number of chips, and
otherwise an all_gather and a local sum. all_to_all_async_generic sends each piece straight to its chip.
ring_joint_scaled_dot_product_attention gathers keys and values, the text's too. neighbor_pad_async sends borders, of a
second dimension with the corners that the first brought.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mochi_aot.artifacts.tiles import TILE_SIZE, device_bytes, tiled_shape
from mochi_aot.compiler.partition.cost import gathered, halo, reduced, scattered, swapped

Attrs = dict[str, Any]
Mesh = tuple[int, int]


class Held(Protocol):
    """What is asked of a tensor on a chip."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def layout(self) -> str: ...


def sent_bytes(op: str, attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> int:
    """Return the bytes that a chip sends, the mean over all chips, for one instruction."""
    return int(_SENT[op](attrs, operands, mesh)) if op in _SENT else 0


def is_collective(op: str) -> bool:
    """Return whether chips talk to each other for it."""
    return op in _SENT


def held_bytes(tensor: Held) -> float:
    """Return the bytes that a chip holds of it."""
    return device_bytes(tensor.dtype, tensor.shape, tensor.layout)


def _all_gather(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    return gathered(held_bytes(operands[0]), mesh[attrs["axis"]])


def _reduce_scatter(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    return scattered(held_bytes(operands[0]), mesh[attrs["axis"]])


def _all_to_all(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    return swapped(held_bytes(operands[0]), mesh[attrs["axis"]])


def _all_reduce(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    pieces, (x,) = mesh[attrs["axis"]], operands
    tile = TILE_SIZE if x.layout == "tile" else 1
    *outer, height, width = tiled_shape(x.shape) if tile > 1 else x.shape
    divides = any(n % pieces == 0 for n in (*outer, height // tile, width // tile))
    return reduced(held_bytes(x), pieces) if divides else gathered(held_bytes(x), pieces)


def _ring(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    _, keys, values, _, text_keys, text_values, *_ = operands
    travelling = (keys, values, text_keys, text_values)  # ttnn gathers the text too, though every chip has all of it
    return gathered(sum(map(held_bytes, travelling)), mesh[attrs["axis"]])


def _neighbor_pad(attrs: Attrs, operands: Sequence[Held], mesh: Mesh) -> float:
    (x,) = operands
    shape, total = list(x.shape), 0.0
    for dim, left, right, axis in zip(
        *(attrs[k] for k in ("dim", "padding_left", "padding_right", "axis")), strict=True
    ):
        slab = device_bytes(x.dtype, shape, "row_major") / shape[dim]
        total += halo(slab * (left + right), mesh[axis])
        shape[dim] += left + right
    return total


_SENT: dict[str, Callable[[Attrs, Sequence[Held], Mesh], float]] = {
    "all_gather": _all_gather,
    "all_reduce": _all_reduce,
    "experimental.all_to_all_async_generic": _all_to_all,
    "reduce_scatter": _reduce_scatter,
    "transformer.ring_joint_scaled_dot_product_attention": _ring,
    "experimental.neighbor_pad_async": _neighbor_pad,
}
