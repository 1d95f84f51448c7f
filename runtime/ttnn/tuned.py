"""Weights to which a delta's products are added: made again on the host, as the chips hold them."""

from pathlib import Path

import numpy as np
import ttnn

from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.low_rank import held_pieces
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS
from mochi_aot.runtime.ttnn.placement import pieces_on_host


def tuned_tensor(bundle: Bundle, name: str, path: Path) -> ttnn.Tensor:
    """Return the tensor of a file with a delta's products added, on the host, for all chips of the bundle's mesh.

    Numbers are added in float32 and rounded as the compiler rounds them: to bfloat16, and from there to blocks.
    """
    rows, columns = bundle.manifest.mesh
    weight, tuned = bundle.weights[name], bundle.tuned[name]
    made: dict[object, ttnn.Tensor] = {}
    pieces = []
    for device, base in enumerate(pieces_on_host(ttnn.load_tensor(path))):
        coordinates = divmod(device, columns)
        key = (held_pieces(tuned, coordinates), hash_bytes(base))
        if key not in made:
            total = base + bundle.addition(name, coordinates)
            rounded = total if weight.dtype == "float32" else bfloat16_numbers(total)
            made[key] = ttnn.Tensor(rounded, DTYPES[weight.dtype], None, LAYOUTS["tile"])
        pieces.append(made[key])
    return ttnn.from_host_shards(pieces, ttnn.MeshShape(rows, columns))


def bfloat16_numbers(array: np.ndarray) -> np.ndarray:
    """Return the bfloat16 numbers nearest to finite float32 ones, as float32; halfway between two, the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded: np.ndarray = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)
