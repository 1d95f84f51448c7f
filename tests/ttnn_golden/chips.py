"""Tensors for tests, and how a whole tensor lies on the chips."""

from typing import Any

import torch
from torch import Tensor

from mochi_aot.artifacts.schema import Instruction
from mochi_aot.runtime.torch.mesh import Mesh
from tests.ttnn_golden.ops import GOLDEN
from tests.ttnn_golden.types import Value

MESH = Mesh(2, 4)


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


def golden(op: str, *operands: Value, mesh: Mesh = MESH, **attrs: Any) -> list[Value]:
    """Results of one op."""
    return GOLDEN[op](attrs, mesh, *operands)


def on_one(op: str, *operands: Tensor, **attrs: Any) -> Tensor:
    """The first result of one op on one chip."""
    return golden(op, *([tensor] for tensor in operands), mesh=Mesh(1, 1), **attrs)[0][0]


def instruction(op: str, operands: list[int], results: list[int], free: list[int], **attrs: Any) -> Instruction:
    return Instruction(op, operands, results, attrs, free, f"{op}.py:1")
