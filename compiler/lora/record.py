"""What a bundle keeps of the LoRAs in it: their factors, and which part of which weight each product was added to.

With it a delta can hold the factors in the place of the weights; see artifacts/delta_writer.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from mochi_aot.artifacts.delta_schema import Factor, LoraRecord, Product, TunedWeight
from mochi_aot.artifacts.integrity import hash_bytes
from mochi_aot.artifacts.low_rank import FORMS
from mochi_aot.artifacts.schema import Placement
from mochi_aot.compiler.ir.program import Checkpoint, Concat, Recipe
from mochi_aot.compiler.ir.types import Shard, TensorType
from mochi_aot.compiler.lora.lora import Change
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.lower.target import FormedParam
from mochi_aot.compiler.lower.weights import checkpoint_names, weight_source
from mochi_aot.compiler.partition.mesh import Mesh

_DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class _Part:
    """A piece of a weight that one parameter is, from row `row` of what a device holds on."""

    name: str
    type: TensorType
    row: int


class _Factors:
    """Factors one after another, each once."""

    def __init__(self) -> None:
        self.data, self.entries = bytearray(), list[Factor]()
        self._known: dict[int, int] = {}

    def index(self, matrix: torch.Tensor) -> int:
        if id(matrix) not in self._known:
            self._known[id(matrix)] = len(self.entries)
            self.entries.append(Factor(_DTYPE_NAMES[matrix.dtype], list(matrix.shape), len(self.data)))
            self.data += matrix.contiguous().view(torch.uint8).numpy().tobytes()
        return self._known[id(matrix)]


def record_of(
    params: Iterable[FormedParam], checkpoint: TunedCheckpoint, mesh: Mesh
) -> tuple[LoraRecord, bytes] | None:
    """Return the record and the file of factors; None where no weight is a product's sum that a host can make again.

    Weights of other forms, such as those of convolutions, are left out: a delta holds them whole.
    """

    def source(formed: FormedParam) -> str:
        return weight_source(formed.name, formed.param.recipe, mesh, checkpoint.base, *formed.tools)

    return record_of_changes(params, checkpoint.changes, source)


def record_of_changes(
    params: Iterable[FormedParam],
    changes: Callable[[str], Sequence[Change]],
    source: Callable[[FormedParam], str] = lambda formed: "",
) -> tuple[LoraRecord, bytes] | None:
    """Return what record_of does, given the changes of a parameter by its name, and the source of a weight that they
    do not touch."""
    factors, weights = _Factors(), list[TunedWeight]()
    for formed in params:
        recipe = formed.param.recipe
        if not any(changes(name) for name in checkpoint_names(recipe)):
            continue
        parts = _parts(recipe, formed.param.value.type, 0)
        if formed.form not in FORMS or parts is None:
            continue
        products = [_product(part, change, factors) for part in parts for change in changes(part.name)]
        weights.append(TunedWeight(formed.name, source(formed), formed.form, products))
    if not weights:
        return None
    data = bytes(factors.data)
    return LoraRecord(hash_bytes(data), factors.entries, weights), data


def _parts(recipe: Recipe, type: TensorType, row: int) -> list[_Part] | None:
    """Return what matrices a weight has above each other; None where it is put together otherwise."""
    if isinstance(recipe, Checkpoint):
        return [_Part(recipe.name, type, row)] if len(type.shape) == 2 else None
    if not isinstance(recipe, Concat) or recipe.dim != 0:
        return None
    found: list[_Part] = []
    for part, part_type in recipe.parts:
        inner = _parts(part, part_type, row)
        if inner is None:
            return None
        found += inner
        row += part_type.local_shape[0]
    return found


def _product(part: _Part, change: Change, factors: _Factors) -> Product:
    up, down = factors.index(change.factors.up), factors.index(change.factors.down)
    placements = [Placement(p.dim, p.chunk) if isinstance(p, Shard) else None for p in part.type.placements]
    return Product(up, down, change.factors.scale, change.first, part.row, list(part.type.shape), placements)
