"""A program that feeds itself, recorded once as a metal trace: the chips then repeat it without the host."""

import os
import warnings
from collections.abc import Mapping

import ttnn

from mochi_aot.artifacts.roles import LATENT
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.executor import TtnnExecutable
from mochi_aot.runtime.ttnn.mesh import reason


def can_trace() -> bool:
    """Return whether programs can be recorded here: a mocked mesh has no commands to record, nor has slow dispatch."""
    return not {"TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_METAL_SLOW_DISPATCH_MODE"} & os.environ.keys()


def feeds_itself(program: Program) -> bool:
    """Return whether an output is an input of the next run, as in a denoising step."""
    return not {output.name for output in program.outputs}.isdisjoint(source.name for source in program.inputs)


class TracedExecutable:
    """Runs a program; from the second time on with the same inputs, but for those of rate latent, by its trace.

    A trace is a list of device commands with the addresses that tensors had while it was recorded. From that follows:

    - Inputs that change from run to run are copied into tensors of the trace's own before each run.
    - The trace ends when the weights that it reads are freed: `release`.
    - The allocator takes the addresses of intermediate results for free, for they were freed while the trace was
      recorded, and gives them to tensors that are made later; the next run overwrites these. So nothing that is made
      after recording may be read after another run: outputs are clones, which the caller gives back as inputs, and
      these are copied before the trace runs.
    """

    def __init__(self, executable: TtnnExecutable, program: Program, mesh: ttnn.MeshDevice) -> None:
        self._executable, self._program, self._mesh = executable, program, mesh
        self._changing = [source.name for source in program.inputs if source.rate == LATENT]
        self._constant: dict[str, ttnn.Tensor] | None = None
        self._own: dict[str, ttnn.Tensor] = {}
        self._outputs: dict[str, ttnn.Tensor] = {}
        self._trace: ttnn.MeshTraceId | None = None
        self._refused = False  # what ttnn refuses once it refuses always: run without a trace from then on

    def run(self, inputs: Mapping[str, ttnn.Tensor], watch: Watch | None = None) -> dict[str, ttnn.Tensor]:
        """Return outputs by name, with the errors of TtnnExecutable.run; without the trace where someone watches."""
        if self._refused or watch is not None:
            return self._executable.run(inputs, watch)
        if not self._same(inputs):
            return self._prepare(inputs)
        if self._trace is None and not self._record():
            return self._executable.run(inputs)
        for name, own in self._own.items():
            ttnn.copy(inputs[name], own)  # before the trace runs, which may overwrite the input
        ttnn.execute_trace(self._mesh, self._trace, blocking=True)
        return {name: ttnn.clone(output) for name, output in self._outputs.items()}

    def release(self) -> None:
        """Forget the trace and all that trace and program need on the chips; the next run is an ordinary one."""
        self._forget()
        self._executable.release()

    def _forget(self) -> None:
        if self._trace is not None:
            ttnn.release_trace(self._mesh, self._trace)
        self._trace, self._constant, self._own, self._outputs = None, None, {}, {}

    def _same(self, inputs: Mapping[str, ttnn.Tensor]) -> bool:
        if self._constant is None:
            return False
        # The same tensors, not equal ones: the trace reads from their addresses.
        return all(inputs.get(name) is tensor for name, tensor in self._constant.items())

    def _prepare(self, inputs: Mapping[str, ttnn.Tensor]) -> dict[str, ttnn.Tensor]:
        """Run without a trace, build all kernels of later runs, and make the tensors that outlive a run."""
        self._forget()
        outputs = self._executable.run(inputs)
        # Made before recording, so that no intermediate result of the trace lies where they are. Copy and clone run
        # once here because their kernels need memory too, which must be taken before.
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
        """Record the instructions of a run without running them. Return False, with a warning, if ttnn refuses."""
        trace = ttnn.begin_trace_capture(self._mesh)
        try:
            try:  # a capture that was begun is ended, whatever happens: the mesh would record all that follows
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
