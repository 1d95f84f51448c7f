"""Writes a bundle's programs and tensor files for ttnn, which needs a mesh, perhaps a mocked one, to lay out tiles."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mochi_aot.artifacts import BundleError, BundleWriter, schema
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.integrity import hash_file
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.conveyor import Conveyor
from mochi_aot.compiler.lower.origin import Origin
from mochi_aot.compiler.lower.shards import GROUP_BYTES, single_thread
from mochi_aot.compiler.lower.target import Checked, WeightProgress, roles
from mochi_aot.compiler.lower.ttnn.dry_run import DryRun, local_weight
from mochi_aot.compiler.lower.ttnn.fit import decoder_in_strips
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, Weight
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.compiler.lower.ttnn.prepare import prepared
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.weights import (
    KnownSource,
    Source,
    distinct_coordinates,
    fill,
    local_tensor,
    weight_source,
)
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.compiler.torch_dtypes import TORCH_DTYPES

WINDOW_BYTES = 1 << 30  # of pieces that were made and not yet written


class TtnnTarget:
    """Weights are tensor files, one each, with the pieces of all chips."""

    families = TTNN_FAMILIES

    def __init__(
        self, weights_dtype: str = "bfloat16", links_dtype: str = "bfloat16", dry_run: DryRun | None = None
    ) -> None:
        """`weights_dtype` is bfloat16 or bfloat8_b, of the matrices; all other weights are bfloat16 or float32.

        `links_dtype` is one of them too, of what chips send each other in a denoising step. Without a dry run the
        bundle holds no kernels.
        """
        self._weights_dtype, self._links_dtype, self._dry_run = weights_dtype, links_dtype, dry_run
        self._programs: dict[int, schema.Program] = {}
        self._weights: dict[str, dict[str, Weight]] = {role: {} for role in roles(self.families)}

    def fitted(self, program: Program, mesh: Mesh, plan: Plan) -> Program:
        """See Target."""
        return decoder_in_strips(program, mesh, plan) if program.name == "decode" else program

    def add_program(self, writer: BundleWriter, program: Program, plan: str, cost: Cost) -> int:
        """See Target."""
        assert program.mesh is not None
        lowered = lower(Lowerer(program, program.mesh, self._weights_dtype, self._links_dtype), plan, cost)
        self._weights[program.name].update((weight.name, weight) for weight in lowered.weights)
        file = writer.add_program(lowered.program)
        self._programs[file] = lowered.program
        return file

    def check_programs(self, writer: BundleWriter, geometries: list[schema.Geometry], mesh: Mesh) -> Checked:
        """See Target."""
        settings = mesh_settings(mesh)
        if self._dry_run is None:
            return Checked(geometries, settings)
        weights = {name: local_weight(weight) for name, weight in self._all_weights().items()}
        geometries, kernels = self._dry_run(writer, geometries, self._programs, weights, settings)
        return Checked(geometries, settings, kernels)

    def add_weights(self, writer: BundleWriter, source: KnownSource, mesh: Mesh, progress: WeightProgress) -> int:
        """See Target. Bytes are counted before tiles pad them, in the checkpoint's order of magnitude."""
        weights = self._all_weights()
        sizes = [weight.param.value.type.local_nbytes for weight in weights.values()]
        with Conveyor(WINDOW_BYTES, start=single_thread) as conveyor:
            for weight, done in zip(weights.values(), itertools.accumulate(sizes), strict=True):
                _put(conveyor, writer, weight, source, mesh, partial(progress, done, sum(sizes)))
        return sum(sizes)

    def _all_weights(self) -> dict[str, Weight]:
        """In the order of first use."""
        return {name: weight for by_name in self._weights.values() for name, weight in by_name.items()}


def _put(
    conveyor: Conveyor,
    writer: BundleWriter,
    weight: Weight,
    source: KnownSource,
    mesh: Mesh,
    done: Callable[[], None],
) -> None:
    origin = Origin(
        writer.earlier, weight.name, partial(weight_source, weight.name, weight.param.recipe, mesh, source, "ttnn")
    )

    def make(place: Path) -> TensorFile | None:
        if origin.made_before() is not None:
            return None
        made = tensor_file(weight, source, mesh, place)
        origin.source()  # in this thread, of which there are several, and while the file cache has all of it
        return made

    def take(made: TensorFile | None) -> None:
        earlier = origin.made_before()
        if earlier is not None:
            writer.add_earlier(earlier)
        else:
            assert made is not None
            file = writer.add_tensor(made.place, made.sha256)
            writer.add_weight(schema.Weight(weight.name, weight.dtype, made.shape, [], file, origin.source()))
        done()

    conveyor.put(held_bytes(weight, mesh), partial(make, writer.tensor_place()), take)


@dataclass(frozen=True)
class TensorFile:
    """A tensor file that was written; `shape` is that of one chip's piece."""

    place: Path
    shape: list[int]
    sha256: str


def tensor_file(weight: Weight, source: Source, mesh: Mesh, place: Path) -> TensorFile:
    """Write what all chips hold of a weight to `place`. BundleError if that fails, as it does when the disk is full."""
    import ttnn

    type = weight.param.value.type
    distinct, devices = distinct_coordinates(weight.param.recipe, type, mesh)
    dtype, layout = getattr(ttnn, weight.dtype), getattr(ttnn, f"{weight.layout.upper()}_LAYOUT")
    made: list[Any] = []
    shape: list[int] = []
    count = max(GROUP_BYTES // max(type.local_nbytes, 1), 1)
    for start in range(0, len(distinct), count):
        group = distinct[start : start + count]
        locals = [torch.empty(type.local_shape, dtype=TORCH_DTYPES[type.dtype]) for _ in group]
        fill(weight.param.recipe, type, group, locals, source)
        for index in range(len(group)):
            piece = prepared(weight.preparation, locals[index])
            locals[index] = torch.empty(0)
            made.append(ttnn.from_torch(piece, dtype=dtype, layout=layout))
            shape = list(piece.shape)
    tensor = ttnn.from_host_shards([made[index] for index in devices], ttnn.MeshShape(*mesh))
    try:
        ttnn.dump_tensor(place, tensor)
    except RuntimeError as error:
        raise BundleError(f"cannot write {place}: {_reason(str(error))}") from error
    with os_errors(f"read {place}"):
        return TensorFile(place, shape, hash_file(place))


def _reason(message: str) -> str:
    """What a failed assertion of ttnn says: the system's own words if it has them, or else its `info:`."""
    system = re.search(r'errno=\d+ "([^"]+)"', message)
    return system[1] if system else message.partition("info:\n")[2].partition("\n")[0] or message.partition("\n")[0]


def held_bytes(weight: Weight, mesh: Mesh) -> int:
    """Memory for the pieces of a weight while its file is written: the distinct ones, and one as it is prepared."""
    distinct, _ = distinct_coordinates(weight.param.recipe, weight.param.value.type, mesh)
    return weight.param.value.type.local_nbytes * (len(distinct) + 2)


def prepared_pieces(weight: Weight, source: Source, mesh: Mesh) -> list[torch.Tensor]:
    """What each chip holds of a weight, in the form its op wants; chips that hold the same share a tensor."""
    recipe, type = weight.param.recipe, weight.param.value.type
    distinct, devices = distinct_coordinates(recipe, type, mesh)
    made = [prepared(weight.preparation, local_tensor(recipe, type, place, source)) for place in distinct]
    return [made[index] for index in devices]
