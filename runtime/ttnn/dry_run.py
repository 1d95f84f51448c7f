"""Runs programs on a mock mesh, where ttnn checks, allocates and builds kernels for every op but computes nothing.

Imports ttnn, and so must itself be imported after the mock mesh was entered.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import ttnn

from mochi_aot.artifacts.dtypes import held_dtype
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Program, TensorSpec
from mochi_aot.runtime.backend import KernelUse
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.backend import TtnnBackend
from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.runtime.ttnn.mesh import reason
from mochi_aot.runtime.ttnn.program_report import ProgramReport, Refusal

LoadWeights = Callable[[list[str]], None]


class EmptyWeightsBackend(TtnnBackend):
    """A backend whose weights take their place on the chips but have no contents."""

    def allocate_weight(self, name: str, shape: Sequence[int], dtype: str, layout: str) -> None:
        """Make a weight of this local shape resident. BackendError if there is no room."""
        spec = ttnn.TensorSpec(list(shape), DTYPES[dtype], LAYOUTS[layout], buffer_type=ttnn.BufferType.DRAM)
        try:
            self._weights[name] = ttnn.allocate_tensor_on_device(spec, self.mesh)
        except RuntimeError as error:
            raise BackendError(f"weight {name!r} cannot be allocated: {reason(error)}") from error


class DryRun:
    """The programs of one geometry in the order of a video; weights and values are resident as in runtime.pipeline.

    A phase frees the weights of others first. Executables stay, and values do that a later program reads.
    """

    def __init__(self, backend: TtnnBackend, load: LoadWeights, geometry: str) -> None:
        """`backend` has a mock mesh open and knows its kernels; `load` makes weights resident on it."""
        self._backend, self._load, self._geometry = backend, load, geometry
        self._loaded: list[str] = []
        self._values: dict[str, ttnn.Tensor] = {}
        self._executables: list[TtnnExecutable] = []

    def run(self, programs: Mapping[str, Program]) -> list[ProgramReport]:
        """Run the programs dry, free all weights and return a report for each program, whatever became of others."""
        reports = []
        for role, program in programs.items():
            reports.append(self._run_one(role, program))
            later = list(programs)[list(programs).index(role) + 1 :]
            wanted = {name for other in later for name in _from_programs(other, programs[other])}
            self._values = {name: value for name, value in self._values.items() if name in wanted}
        self._backend.free_weights(self._loaded)
        return reports

    def _run_one(self, role: str, program: Program) -> ProgramReport:
        watch = _Watch(self._backend.mesh)
        started = time.monotonic()
        weight_bytes, refusal = 0, None
        try:
            weight_bytes = self._enter(program)
            self._execute(role, program, watch)
        except (BackendError, RuntimeError) as error:
            refusal = _refusal(program, watch.accepted, error)
        kernels = self._backend.kernel_use() or KernelUse(0, 0)
        return ProgramReport(
            geometry=self._geometry,
            role=role,
            ops=len(program.instructions),
            accepted=watch.accepted,
            rejected=int(refusal is not None and refusal.instruction is not None),
            weight_bytes=weight_bytes,
            peak_bytes=watch.peak,
            after_bytes=_allocated(self._backend.mesh, ttnn.BufferType.DRAM),
            l1_peak_bytes=watch.l1_peak,
            kernels_built=kernels.built,
            kernels_found=kernels.found,
            seconds=time.monotonic() - started,
            refusal=refusal,
        )

    def _enter(self, program: Program) -> int:
        """Make the weights of this program, and no others, resident; return the bytes that a chip holds of them."""
        wanted = [weight.name for weight in program.weights]
        self._backend.free_weights(self._loaded)
        self._loaded = wanted
        before = _allocated(self._backend.mesh, ttnn.BufferType.DRAM)
        self._load(wanted)
        return _allocated(self._backend.mesh, ttnn.BufferType.DRAM) - before

    def _execute(self, role: str, program: Program, watch: "_Watch") -> None:
        executable = self._backend.load_program(program)
        assert isinstance(executable, TtnnExecutable), "a mock mesh records no traces"
        self._executables.append(executable)
        inputs = {
            item.name: self._values[item.name] if self._is_made(role, item.name) else self._zeros(item.spec)
            for item in program.inputs
        }
        watch.measure()
        outputs = executable.run(inputs, watch)
        self._values.update(outputs)

    def _is_made(self, role: str, name: str) -> bool:
        """Return whether an earlier program has made this input, and has not been refused."""
        return name not in ROLES[role].inputs and name in self._values

    def _zeros(self, spec: TensorSpec) -> ttnn.Tensor:
        return self._backend.upload(np.zeros(spec.shape, held_dtype(spec.dtype)), spec)


class _Watch:
    """Counts the instructions that ran, and keeps the most memory that was taken after any of them."""

    def __init__(self, mesh: ttnn.MeshDevice) -> None:
        self._mesh = mesh
        self.accepted, self.peak, self.l1_peak = 0, 0, 0

    def __call__(self, index: int, results: list[ttnn.Tensor]) -> None:
        self.accepted = index + 1
        self.measure()

    def measure(self) -> None:
        self.peak = max(self.peak, _allocated(self._mesh, ttnn.BufferType.DRAM))
        self.l1_peak = max(self.l1_peak, _allocated(self._mesh, ttnn.BufferType.L1))


def _from_programs(role: str, program: Program) -> set[str]:
    """Return the names of the inputs that are not the host's to give."""
    return {item.name for item in program.inputs} - set(ROLES[role].inputs)


def _refusal(program: Program, accepted: int, error: Exception) -> Refusal:
    """Return what stopped a program.

    An error while an instruction ran has ttnn's own error as its cause; other errors are of the program as a whole.
    """
    if accepted == len(program.instructions) or f"instruction {accepted} " not in str(error):
        return Refusal(str(error) if isinstance(error, BackendError) else reason(error))
    instruction = program.instructions[accepted]
    why = reason(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)
    return Refusal(why, accepted, instruction.op, instruction.loc)


def _allocated(mesh: ttnn.MeshDevice, kind: ttnn.BufferType) -> int:
    """Return the bytes of one chip that are taken."""
    view = ttnn.get_memory_view(mesh, kind)
    return int(view.total_bytes_allocated_per_bank * view.num_banks)
