"""Lowers a bundle's programs for ttnn, runs them dry and writes its tensor files, all on a mocked mesh."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.roles import ENCODE
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower.errors import KernelsError
from mochi_aot.compiler.lower.fit import decoder_in_strips, encoder_in_strips
from mochi_aot.compiler.lower.target import Checked, FormedParam, WeightProgress, roles
from mochi_aot.compiler.lower.ttnn.checked_before import checked_before
from mochi_aot.compiler.lower.ttnn.chip_constants import DRAM_SPARE, machine_of
from mochi_aot.compiler.lower.ttnn.dry_run import MockedMesh, mocked_mesh, run_and_pack
from mochi_aot.compiler.lower.ttnn.held import peak_bytes
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, LoweringError, Weight
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings, trace_bytes
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.seconds import calls_of, program_seconds
from mochi_aot.compiler.lower.ttnn.tensor_files import WINDOW_BYTES, TiledWeight
from mochi_aot.compiler.lower.weight_belt import WeightBelt
from mochi_aot.compiler.lower.weights import KnownSource
from mochi_aot.compiler.partition.choose import Estimate
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES, guidance_cut
from mochi_aot.compiler.passes.rows_apart import rows_apart

# Of the largest value. Three of them are in memory at once, and some frames for each convolution. Larger ones would
# save little: what a strip costs more than the video in one go is a second exchange of the borders of those frames.
STRIP_BYTES = 640 << 20


class TtnnTarget:
    """Weights are tensor files, one each, with the pieces of all chips."""

    families = TTNN_FAMILIES

    def __init__(
        self,
        weights_dtype: str = "bfloat16",
        links_dtype: str = "bfloat16",
        mocked: MockedMesh | None = None,
        arch: str = WORMHOLE,
    ) -> None:
        """`weights_dtype` is bfloat16 or bfloat8_b, of the matrices; all other weights are bfloat16 or float32.

        `links_dtype` is one of them too, of what chips send each other in a denoising step. Programs run dry on
        `mocked`, the mesh at which this process was pointed; without one the bundle holds no kernels.
        """
        self._weights_dtype, self._links_dtype = weights_dtype, links_dtype
        self._mocked, self._arch = mocked, arch
        self._weights: dict[str, dict[str, Weight]] = {role: {} for role in roles(self.families)}

    def fitted(self, program: Program, mesh: Mesh, plan: Plan) -> Program:
        """See Target."""
        if program.name == "denoise":
            return program if guidance_cut(plan, mesh) else rows_apart(program)
        in_strips = {"decode": decoder_in_strips, ENCODE: encoder_in_strips}.get(program.name)
        return program if in_strips is None else in_strips(program, mesh, plan, STRIP_BYTES)

    def narrowing(self, role: str) -> None:
        """See Target. Matrices become bfloat8_b as programs are lowered, and their products remain."""

    def estimate(self, program: Program, plan: str, cost: Cost) -> Estimate:
        """See Target. The denoising step's peak has the room for its recording in it."""
        assert program.mesh is not None
        machine, traced = machine_of(program.mesh, self._arch), program.name == "denoise"
        try:
            made = lower(self._lowerer(program, program.mesh), plan, cost)
        except LoweringError as error:
            raise PlanError(f"plan {plan}: {error}") from error
        calls = calls_of(made.program.instructions, made.tensors, program.mesh, machine)
        peak = peak_bytes(made.program, made.tensors, machine) + trace_bytes([made.program])
        stats = made.program.stats
        return Estimate(program_seconds(calls, traced), stats.collective_bytes, peak, stats.weight_bytes)

    def memory_bytes(self, mesh: Mesh) -> float:
        """See Target."""
        return machine_of(mesh, self._arch).dram_bytes * (1 - DRAM_SPARE.value)

    def lowered(self, program: Program, plan: str, cost: Cost) -> schema.Program:
        """See Target."""
        assert program.mesh is not None
        lowered = lower(self._lowerer(program, program.mesh), plan, cost)
        self._weights[program.name].update((weight.name, weight) for weight in lowered.weights)
        return lowered.program

    def check_programs(
        self,
        writer: BundleWriter,
        geometries: list[schema.Geometry],
        programs: dict[int, schema.Program],
        mesh: Mesh,
    ) -> Checked:
        """See Target."""
        settings = mesh_settings(mesh, programs.values(), self._arch)
        if self._mocked is None:
            return Checked(geometries, settings)
        before = checked_before(writer, geometries, settings, self._mocked.stand_in)
        return before or run_and_pack(self._mocked, writer, geometries, programs, self._all_weights(), settings)

    def add_weights(self, writer: BundleWriter, source: KnownSource, mesh: Mesh, progress: WeightProgress) -> int:
        """See Target. Bytes are counted before tiles pad them, in the checkpoint's order of magnitude."""
        weights = self._all_weights()
        sizes = [weight.param.value.type.local_nbytes for weight in weights.values()]
        with WeightBelt(writer, WINDOW_BYTES) as belt:
            for weight, done in zip(weights.values(), itertools.accumulate(sizes), strict=True):
                belt.put(TiledWeight(writer, weight, source, mesh), partial(progress, done, sum(sizes)))
        return sum(sizes)

    def formed_params(self) -> Iterator[FormedParam]:
        """See Target. What is held as it is has a preparation of its own name, and so have the forms of matrices."""
        for name, weight in self._all_weights().items():
            yield FormedParam(name, weight.param, str(weight.preparation), ("ttnn",))

    def _lowerer(self, program: Program, mesh: Mesh) -> Lowerer:
        return Lowerer(program, mesh, self._weights_dtype, self._links_dtype, self._arch)

    def _all_weights(self) -> dict[str, Weight]:
        """Return all weights by name, in the order of first use."""
        return {name: weight for by_name in self._weights.values() for name, weight in by_name.items()}


@contextmanager
def ttnn_target(
    mesh: Mesh, weights_dtype: str, links_dtype: str, require_kernels: bool, arch: str
) -> Iterator[TtnnTarget]:
    """Point this process at a mocked mesh and give the target that runs programs dry on it.

    Raise KernelsError for `require_kernels` where only the stand-in compiler is installed, and where no other process
    would find the kernels; BackendError where there is no ttnn, where no mesh can be mocked, and where this process has
    imported ttnn already.
    """
    with mocked_mesh(mesh, arch) as mocked:
        if require_kernels and mocked.stand_in:
            raise KernelsError(
                "this host has no kernel compiler (SFPI), and kernels of the stand-in compiler were not to be made: "
                "install ttnn with its compiler, or compile without requiring kernels; chips then build their own"
            )
        if not mocked.found_elsewhere:
            raise KernelsError(
                "kernels built here would be found by nobody: file number 1000, by which ttnn knows the cache folder, "
                "is in use in this process, or not allowed; compile in a process of its own, with ulimit -n 1024"
            )
        yield TtnnTarget(weights_dtype, links_dtype, mocked, arch)
