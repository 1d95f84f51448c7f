"""Collectives, by ttnn's definitions: each group of chips along the axis is a mesh of one dimension to them."""

from itertools import chain
from typing import Any

from torch import Tensor

from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from tests.ttnn_golden.formats import dtype_of, stored, widened
from tests.ttnn_golden.local import golden_function, require_known
from tests.ttnn_golden.types import Attrs, Golden, GoldenError, Value


def _collective(op: str, cuts: bool) -> Golden:
    """`cuts`: chips get pieces along `dim`. ttnn's definition then gives the pieces of a group joined, and otherwise
    the one tensor that all its chips get."""
    function = golden_function(op)

    def golden(attrs: Attrs, mesh: Mesh, x: Value) -> list[Value]:
        require_known(attrs, "axis dim")

        def on_group(*tensors: Tensor) -> tuple[Tensor, ...]:
            if cuts:
                _require_divisible(tensors[0], attrs["dim"], len(tensors))
            outcome = function([widened(tensor) for tensor in tensors], **_arguments(attrs, len(tensors)))
            whole = stored(outcome, dtype_of(tensors[0]))
            return whole.chunk(len(tensors), dim=attrs["dim"]) if cuts else (whole,) * len(tensors)

        groups = mesh.groups(attrs["axis"])
        pieces = once_per_distinct(on_group, (tuple(x[chip] for chip in group) for group in groups))
        by_chip = dict(zip(chain(*groups), chain(*pieces), strict=True))
        return [[by_chip[chip] for chip in range(mesh.size)]]

    return golden


def _arguments(attrs: Attrs, count: int) -> dict[str, Any]:
    dim = {"dim": attrs["dim"]} if "dim" in attrs else {}
    return {**dim, "cluster_axis": 0, "_ttnn_golden_mesh_shape": (count,), "_ttnn_golden_mesh_shard_dims": (None,)}


def _require_divisible(tensor: Tensor, dim: int, count: int) -> None:
    if tensor.shape[dim] % count:
        raise GoldenError(f"dimension {dim} of {list(tensor.shape)} does not divide over {count} chips")


COLLECTIVES: dict[str, Golden] = {
    "all_gather": _collective("all_gather", cuts=False),
    "all_reduce": _collective("all_reduce", cuts=False),
    "mesh_partition": _collective("mesh_partition", cuts=True),
    "reduce_scatter": _collective("reduce_scatter", cuts=True),
}
