"""A program that feeds itself, recorded once as a metal trace: the chips then repeat it without the host."""

import os
import warnings
from collections.abc import Mapping

import ttnn

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.runtime.ttnn.mesh import reason


def can_trace() -> bool:
    """Whether programs can be recorded here: a mocked mesh has no commands to record."""
    return "TT_METAL_MOCK_CLUSTER_DESC_PATH" not in os.environ


def feeds_itself(program: Program) -> bool:
    """Whether an output is an input of the next run, as in a denoising step."""
    return not {output.name for output in program.outputs}.isdisjoint(source.name for source in program.inputs)


class TracedExecutable:
    """Runs a program; from the second time on with the same inputs, but for those of rate latent, by its trace.

    A trace reads and writes fixed addresses. So it has tensors of its own for the inputs that change; it ends with the
    weights that it reads; and what is made after it was recorded may lie where it works, so that nothing may live
    from one run to the next but what was there before, or is copied before the next run: the outputs.
    """

    def __init__(self, executable: TtnnExecutable, program: Program, mesh: ttnn.MeshDevice) -> None:
        self._executable, self._program, self._mesh = executable, program, mesh
        self._changing = [source.name for source in program.inputs if source.rate == "latent"]
        self._constant: dict[str, ttnn.Tensor] | None = None
        self._own: dict[str, ttnn.Tensor] = {}
        self._outputs: dict[str, ttnn.Tensor] = {}
        self._trace: ttnn.MeshTraceId | None = None
        self._refused = False

    def run(self, inputs: Mapping[str, ttnn.Tensor], watch: Watch | None = None) -> dict[str, ttnn.Tensor]:
        """Outputs by name, as TtnnExecutable.run gives them, with its errors; by no trace where someone watches."""
        if self._refused or watch is not None:
            return self._executable.run(inputs, watch)
        if not self._same(inputs):
            return self._prepare(inputs)
        if self._trace is None and not self._record():
            return self._executable.run(inputs)
        for name, own in self._own.items():
            ttnn.copy(inputs[name], own)
        ttnn.execute_trace(self._mesh, self._trace, blocking=True)
        return {name: ttnn.clone(output) for name, output in self._outputs.items()}

    def release(self) -> None:
        """Forgets the trace and all that it and the program need on the chips; the next run is an ordinary one."""
        self._forget()
        self._executable.release()

    def _forget(self) -> None:
        if self._trace is not None:
            ttnn.release_trace(self._mesh, self._trace)
        self._trace, self._constant, self._own, self._outputs = None, None, {}, {}

    def _same(self, inputs: Mapping[str, ttnn.Tensor]) -> bool:
        if self._constant is None:
            return False
        return all(inputs.get(name) is tensor for name, tensor in self._constant.items())

    def _prepare(self, inputs: Mapping[str, ttnn.Tensor]) -> dict[str, ttnn.Tensor]:
        """An ordinary run. All kernels of the later ones are built here, and the tensors made that outlive a run."""
        self._forget()
        outputs = self._executable.run(inputs)
        self._own = {name: ttnn.clone(inputs[name]) for name in self._changing}
        for name, own in self._own.items():
            ttnn.copy(inputs[name], own)
        for output in outputs.values():
            ttnn.clone(output)
        self._constant = {
            source.name: inputs[source.name] for source in self._program.inputs if source.name not in self._own
        }
        return outputs

    def _record(self) -> bool:
        """Records a run, which does not happen by that. False, with a warning, where ttnn will not have it."""
        trace = ttnn.begin_trace_capture(self._mesh)
        try:
            try:
                self._outputs = self._executable.run({**(self._constant or {}), **self._own})
            finally:
                ttnn.end_trace_capture(self._mesh, trace)
        except (BackendError, RuntimeError) as error:
            ttnn.release_trace(self._mesh, trace)
            self._forget()
            self._refused = True
            warnings.warn(f"program {self._program.name!r} runs untraced: {reason(error)}", stacklevel=2)
            return False
        self._trace = trace
        return True
