"""Writes a bundle's programs and tensor files for ttnn, which needs a mesh, perhaps a mocked one, to lay out tiles."""

import itertools
from typing import Any

import torch

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.target import Checked, WeightProgress, roles
from mochi_aot.compiler.lower.ttnn.dry_run import DryRun, local_weight
from mochi_aot.compiler.lower.ttnn.fit import decoder_in_strips
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, Weight, run
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.compiler.lower.ttnn.prepare import prepared
from mochi_aot.compiler.lower.weights import Source, cut_axes, local_tensor
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES


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
        lowered = run(Lowerer(program, program.mesh, self._weights_dtype, self._links_dtype), plan, cost)
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

    def add_weights(self, writer: BundleWriter, source: Source, mesh: Mesh, progress: WeightProgress) -> int:
        """See Target. Bytes are counted before tiles pad them, in the checkpoint's order of magnitude."""
        weights = self._all_weights()
        total, done = sum(weight.param.value.type.local_nbytes for weight in weights.values()), 0
        for weight in weights.values():
            self._add(writer, weight, source, mesh)
            done += weight.param.value.type.local_nbytes
            progress(done, total)
        return total

    def _all_weights(self) -> dict[str, Weight]:
        """In the order of first use."""
        return {name: weight for by_name in self._weights.values() for name, weight in by_name.items()}

    def _add(self, writer: BundleWriter, weight: Weight, source: Source, mesh: Mesh) -> None:
        import ttnn

        pieces = prepared_pieces(weight, source, mesh)
        made: dict[int, Any] = {}
        for piece in pieces:
            if id(piece) not in made:
                dtype, layout = getattr(ttnn, weight.dtype), getattr(ttnn, f"{weight.layout.upper()}_LAYOUT")
                made[id(piece)] = ttnn.from_torch(piece, dtype=dtype, layout=layout)
        tensor = ttnn.from_host_shards([made[id(piece)] for piece in pieces], ttnn.MeshShape(*mesh))
        file = writer.add_tensor_file(lambda path: ttnn.dump_tensor(path, tensor))
        writer.add_weight(schema.Weight(weight.name, weight.dtype, list(pieces[0].shape), [], file))


def prepared_pieces(weight: Weight, source: Source, mesh: Mesh) -> list[torch.Tensor]:
    """What each chip holds of a weight, in the form its op wants; chips that hold the same share a tensor."""
    axes = cut_axes(weight.param.recipe, weight.param.value.type)
    made: dict[tuple[int, ...], torch.Tensor] = {}
    pieces = []
    for device in itertools.product(*map(range, mesh)):
        coordinates = tuple(c if axis in axes else 0 for axis, c in enumerate(device))
        if coordinates not in made:
            local = local_tensor(weight.param.recipe, weight.param.value.type, coordinates, source)
            made[coordinates] = prepared(weight.preparation, local)
        pieces.append(made[coordinates])
    return pieces
