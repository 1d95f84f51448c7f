"""Seconds by op of a program that runs untraced, measured by the host, beside those of the model."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import ttnn

from mochi_aot.artifacts.schema import Program
from mochi_aot.tools.golden.known_run import Progress, Ready


@dataclass(frozen=True)
class _Held:
    """What the model asks of a tensor on a chip."""

    shape: tuple[int, ...]
    dtype: str
    layout: str


@dataclass
class Timed:
    """A watch of one run, which waits for the chips after each instruction."""

    mesh: Any
    program: Program
    progress: Progress
    held: dict[int, _Held]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    modelled: dict[str, float] | None = field(default_factory=lambda: defaultdict(float))
    peak: dict[str, int] = field(default_factory=lambda: {"dram_bytes": 0, "l1_bytes": 0})
    started: float = 0.0

    @classmethod
    def of(cls, mesh: Any, ready: Ready, progress: Progress) -> "Timed":
        """Return a watch for a program that is ready; its run begins now."""
        program = ready.program
        held = {source.value: _held(ready.inputs[source.name]) for source in program.inputs}
        held |= {weight.value: _held(ready.weights[weight.name]) for weight in program.weights}
        progress(program, 0)
        return cls(mesh, program, progress, held, started=time.monotonic())

    def __call__(self, index: int, results: list[Any]) -> None:
        """Note what an instruction took."""
        ttnn.synchronize_device(self.mesh)
        op = self.program.instructions[index].op
        self.seconds[op] += time.monotonic() - self.started
        self.calls[op] += 1
        self._model(index, results)
        for name, kind in (("dram_bytes", ttnn.BufferType.DRAM), ("l1_bytes", ttnn.BufferType.L1)):
            view = ttnn.get_memory_view(self.mesh, kind)
            self.peak[name] = max(self.peak[name], int(view.total_bytes_allocated_per_bank * view.num_banks))
        self.progress(self.program, index + 1)
        self.started = time.monotonic()

    def numbers(self) -> dict[str, Any]:
        """Return seconds and calls by op, measured and modelled, and the most memory that tensors took."""
        by_op = {
            op: {
                "calls": self.calls[op],
                "seconds": round(seconds, 6),
                "modelled_seconds": None if self.modelled is None else round(self.modelled[op], 6),
            }
            for op, seconds in sorted(self.seconds.items(), key=lambda item: -item[1])
        }
        return {"seconds": round(sum(self.seconds.values()), 4), "by_op": by_op, "peak": self.peak}

    def _model(self, index: int, results: list[Any]) -> None:
        """Add the model's seconds; none where the compiler's needs are not installed, or for an op that it lacks."""
        instruction = self.program.instructions[index]
        self.held.update(zip(instruction.results, map(_held, results), strict=True))
        if self.modelled is None:
            return
        try:
            from mochi_aot.compiler.lower.ttnn.chip_constants import machine_of
            from mochi_aot.compiler.lower.ttnn.seconds import Call, ModelError, instruction_seconds
        except ModuleNotFoundError:
            self.modelled = None
            return
        rows, columns = self.program.mesh
        shape = (rows, columns)
        operands, made = ([self.held[i] for i in values] for values in (instruction.operands, instruction.results))
        call = Call(instruction.op, instruction.attrs, operands, made, shape, machine_of(shape))
        try:
            self.modelled[instruction.op] += instruction_seconds(call, traced=False)
        except ModelError:
            self.modelled = None


def _held(tensor: Any) -> _Held:
    return _Held(tuple(tensor.shape), tensor.dtype.name.lower(), tensor.layout.name.lower())
