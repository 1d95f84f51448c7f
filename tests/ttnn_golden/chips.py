"""Tensors for tests, and how a whole tensor lies on the chips."""

import torch
import ttnn
from torch import Tensor

from mochi_aot.artifacts.schema import Attr, Instruction
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.ttnn.context import DTYPES, Context
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.tools.golden.formats import NAMES
from mochi_aot.tools.golden.stand_in import stand_in
from mochi_aot.tools.golden.types import ChipMesh, Chips, Value

MESH = Mesh(2, 4)
ONE = Mesh(1, 1)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def spread(whole: Tensor, mesh: Mesh, rows: int | None = None, columns: int | None = None) -> Value:
    """Equal pieces along dimension `rows` over mesh axis 0 and along `columns` over axis 1; None is replicated."""
    bands = [whole] * mesh.rows if rows is None else list(whole.chunk(mesh.rows, rows))
    return [
        piece
        for band in bands
        for piece in ([band] * mesh.columns if columns is None else band.chunk(mesh.columns, columns))
    ]


def joined(value: Value, mesh: Mesh, rows: int | None = None, columns: int | None = None) -> Tensor:
    """The inverse of `spread`."""
    bands = [value[row * mesh.columns : (row + 1) * mesh.columns] for row in range(mesh.rows)]
    whole = [band[0] if columns is None else torch.cat(band, columns) for band in bands]
    return whole[0] if rows is None else torch.cat(whole, rows)


def on_chips(pieces: Value, layout: ttnn.Layout = ttnn.TILE_LAYOUT) -> Chips:
    """A tensor with these pieces, in the dtype that they are stored in."""
    return Chips(pieces, DTYPES[NAMES[pieces[0].dtype]], layout)


def executed(op: str, *operands: Value | Chips, mesh: Mesh | ChipMesh = MESH, **attrs: Attr) -> list[Chips]:
    """Results of one instruction, by the runtime's own row for it."""
    chips = ChipMesh(mesh) if isinstance(mesh, Mesh) else mesh
    tensors = [on_chips(operand) if isinstance(operand, list) else operand for operand in operands]
    with stand_in(chips):
        outcome = OPS[op](attrs, Context(chips))(*tensors)
    return list(outcome) if isinstance(outcome, tuple) else [outcome]


def on_one(op: str, *operands: Tensor, **attrs: Attr) -> Tensor:
    """The first result of one op on one chip."""
    return executed(op, *([tensor] for tensor in operands), mesh=ONE, **attrs)[0].pieces[0]


def instruction(op: str, operands: list[int], results: list[int], free: list[int], **attrs: Attr) -> Instruction:
    return Instruction(op, operands, results, attrs, free, f"{op}.py:1")
