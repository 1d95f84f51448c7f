"""Collectives, by ttnn's definitions: each group of chips along the axis is a mesh of one dimension to them."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from mochi_aot.runtime.torch.mesh import once_per_distinct
from mochi_aot.tools.golden.formats import widened
from mochi_aot.tools.golden.local import golden_function
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition, GoldenError


def _collective(op: str, cuts: bool) -> Definition:
    """`cuts`: chips get pieces along `dim`. ttnn's definition then gives the pieces of a group joined, and otherwise
    the one tensor that all its chips get."""
    function = golden_function(op)

    def definition(mesh: ChipMesh, x: Chips, *, cluster_axis: int, dim: int | None = None) -> Chips:
        along: dict[str, Any] = {} if dim is None else {"dim": dim}

        def on_group(*tensors: Tensor) -> tuple[Tensor, ...]:
            count = len(tensors)
            if cuts and tensors[0].shape[along["dim"]] % count:
                raise GoldenError(f"dimension {dim} of {list(tensors[0].shape)} does not divide over {count} chips")
            line = {"cluster_axis": 0, "_ttnn_golden_mesh_shape": (count,), "_ttnn_golden_mesh_shard_dims": (None,)}
            whole = mesh.held(function([widened(tensor) for tensor in tensors], **along, **line), x.dtype)
            return whole.chunk(count, **along) if cuts else (whole,) * count

        groups = mesh.groups(cluster_axis)
        pieces = once_per_distinct(on_group, (tuple(x.pieces[chip] for chip in group) for group in groups))
        by_chip = dict(zip(chain(*groups), chain(*pieces), strict=True))
        return Chips([by_chip[chip] for chip in range(mesh.size)], x.dtype, x.layout)

    return definition


def _all_to_all(mesh: ChipMesh, x: Chips, *, in_dim: int, out_dim: int, cluster_axis: int, **links: Any) -> Chips:
    """Chips along the axis cut `out_dim` into equal pieces, and each has the pieces of its place joined along `in_dim`,
    by what ttnn's documentation says; `links` are how they travel."""
    if not links.keys() <= {"topology", "num_links"}:
        raise GoldenError(f"unknown {sorted(links)}")
    pieces = list(x.pieces)
    for group in mesh.groups(cluster_axis):
        count = len(group)
        if x.pieces[group[0]].shape[out_dim] % count:
            shape = list(x.pieces[group[0]].shape)
            raise GoldenError(f"dimension {out_dim} of {shape} does not divide over {count} chips")
        cut = [x.pieces[chip].chunk(count, out_dim) for chip in group]
        for place, chip in enumerate(group):
            pieces[chip] = torch.cat([parts[place] for parts in cut], in_dim)
    return Chips(pieces, x.dtype, x.layout)


THEIRS: dict[str, Definition] = {
    "all_gather": _collective("all_gather", cuts=False),
    "all_reduce": _collective("all_reduce", cuts=False),
    "mesh_partition": _collective("mesh_partition", cuts=True),
    "reduce_scatter": _collective("reduce_scatter", cuts=True),
}
OURS: dict[str, Definition] = {"experimental.all_to_all_async_generic": _all_to_all}
