"""A program that feeds itself, recorded once as a CUDA graph: the GPU then repeats it without the host."""

import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import torch

from mochi_aot.artifacts.roles import LATENT
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Executable, Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.text_positions import remember_positions, valid_positions
from mochi_aot.runtime.torch.types import Value

Values = dict[str, Value]
Lengths = tuple[int, ...]  # how many tokens count in each row of each mask: shapes, in what is recorded
_MASK_OPERAND = 6  # of joint_attention


class Recorder(Protocol):
    """Records what is asked of a device."""

    def record(self, run: Callable[[], Values]) -> tuple[Values, Callable[[], object]]:
        """Call `run` while recording, which may leave its results unmade. Return them, and what makes them, each time
        anew in the same memory."""


class CudaRecorder:
    """Records CUDA graphs. What they compute in between has one piece of memory, since they never run side by side."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: weakref.ref[torch.cuda.CUDAGraph] | None = None

    def record(self, run: Callable[[], Values]) -> tuple[Values, Callable[[], object]]:
        """See Recorder."""
        graph, last = torch.cuda.CUDAGraph(), None if self._last is None else self._last()
        pool = None if last is None else last.pool()  # a pool ends with the last graph that has it
        # The thread that brings weights may do what a recording thread may not.
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            outputs = run()
        self._last = weakref.ref(graph)
        return outputs, graph.replay


def feeds_itself(program: Program) -> bool:
    """Return whether an output is an input of the next run, as in a denoising step."""
    return not {output.name for output in program.outputs}.isdisjoint(
        source.name for source in program.inputs if source.rate == LATENT
    )


class RecordedExecutable:
    """Runs a program on one device; from the second time on with texts of the same lengths by a recording of that.

    A recording reads and writes the memory that it was made with. From that follows:

    - Inputs are copied into tensors of its own, those that are the same objects as before only once.
    - Outputs are copied out of it.
    - It ends when the weights that it reads are freed: `release`.
    - The first run is not recorded: libraries choose their kernels in it, and take memory of their own.
    """

    def __init__(self, executable: Executable, program: Program, recorder: Recorder) -> None:
        self._executable, self._program, self._recorder = executable, program, recorder
        self._masks = _masks(program)
        self._met: set[Lengths] = set()
        self._recordings: dict[Lengths, _Recording] = {}
        self._refused = self._masks is None  # what was refused once is refused always

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> Values:
        """Return outputs by name, with the errors of the executable's run; without a recording where someone watches,
        or where recording fails, which is a warning."""
        if self._refused or watch is not None or any(source.name not in inputs for source in self._program.inputs):
            return self._executable.run(inputs, watch)
        with torch.inference_mode():
            lengths = tuple(len(row) for name in self._masks or () for row in valid_positions(inputs[name][0]))
            if lengths not in self._met:
                self._met.add(lengths)
                return self._executable.run(inputs)
            if lengths not in self._recordings and not self._record(lengths, inputs):
                return self._executable.run(inputs)
            return self._recordings[lengths].run(inputs)

    def release(self) -> None:
        """Forget recordings and their memory; the next run is an ordinary one."""
        self._met.clear()
        self._recordings.clear()

    def _record(self, lengths: Lengths, inputs: Mapping[str, Value]) -> bool:
        """Record a run. Return False, with a warning, if that fails."""
        own = {source.name: inputs[source.name] for source in self._program.inputs}
        try:
            self._recordings[lengths] = _Recording(self._executable, own, self._masks or (), self._recorder)
        except (BackendError, RuntimeError) as error:
            self.release()
            self._refused = True
            reason = str(error).partition("\n")[0]
            warnings.warn(f"program {self._program.name!r} runs without a CUDA graph: {reason}", stacklevel=3)
            return False
        return True


class _Recording:
    """A recording of one run, with the memory of its inputs and outputs."""

    def __init__(
        self, executable: Executable, inputs: Mapping[str, Value], masks: tuple[str, ...], recorder: Recorder
    ) -> None:
        self._own = {name: tensor.clone() for name, (tensor,) in inputs.items()}
        self._positions = {name: [row.clone() for row in valid_positions(inputs[name][0])] for name in masks}
        for name, positions in self._positions.items():
            remember_positions(self._own[name], positions)
        self._held = {name: weakref.ref(tensor) for name, (tensor,) in inputs.items()}  # what was copied last
        own = {name: [tensor] for name, tensor in self._own.items()}
        self._outputs, self._replay = recorder.record(lambda: executable.run(own))

    def run(self, inputs: Mapping[str, Value]) -> Values:
        """Return the outputs for these inputs, whose texts are as long as those that were recorded."""
        for name, own in self._own.items():
            (tensor,) = inputs[name]
            if self._held[name]() is tensor:
                continue
            own.copy_(tensor)
            if name in self._positions:
                for to, row in zip(self._positions[name], valid_positions(tensor), strict=True):
                    to.copy_(row)
            self._held[name] = weakref.ref(tensor)
        self._replay()
        return {name: [tensor.clone() for tensor in value] for name, value in self._outputs.items()}


def _masks(program: Program) -> tuple[str, ...] | None:
    """Return the inputs that say which tokens attention reads; None where a program computes that itself."""
    names = {source.value: source.name for source in program.inputs}
    used = {item.operands[_MASK_OPERAND] for item in program.instructions if item.op == "joint_attention"}
    return tuple(sorted(names[value] for value in used)) if used <= names.keys() else None
