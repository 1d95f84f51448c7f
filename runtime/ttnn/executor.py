"""Runs an instruction list. All that can be looked up is looked up once, when the program is loaded."""

from collections.abc import Callable, Mapping
from typing import Any

import ttnn

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.artifacts.ttnn_defects import known_defect, may_be_defective
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.mesh import reason
from mochi_aot.runtime.ttnn.mock.installation import ttnn_version
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.runtime.ttnn.ops.types import Call
from mochi_aot.runtime.ttnn.placement import describe, mismatch

# The callable, operand slots, result slot or slots, slots to clear afterwards.
Step = tuple[Callable[..., Any], tuple[int, ...], int | tuple[int, ...], tuple[int, ...]]


class TtnnExecutable:
    """A program over a mesh. Slots hold the tensor that each value id stands for.

    A value is freed by clearing its slot: ttnn counts the tensors that share a buffer, such as a reshape and what it
    was made from, and the last one gives the buffer back. (ttnn.deallocate would take it from the others.)
    """

    def __init__(self, program: Program, mesh: ttnn.MeshDevice, weights: Mapping[str, ttnn.Tensor]) -> None:
        """`weights` is read at each run. Raises BackendError for an op that is not in the table."""
        self._program, self._mesh, self._weights = program, mesh, weights
        self._ttnn_version = ttnn_version()  # found in files of the installation: once, and not for each instruction
        self._steps = self._resolve()
        self._slots = 1 + max(_values(program), default=-1)

    def run(self, inputs: Mapping[str, ttnn.Tensor], watch: Watch | None = None) -> dict[str, ttnn.Tensor]:
        """Outputs by name. BackendError for a missing or misshapen input, a weight not loaded, or an op that fails.

        `watch` is called with each instruction's index and results, before any value is freed after it.
        """
        self._steps = self._steps or self._resolve()
        slots: list[Any] = [None] * self._slots
        for source in self._program.inputs:
            self._check_input(source.name, source.spec, inputs)
            slots[source.value] = inputs[source.name]
        for weight in self._program.weights:
            if weight.name not in self._weights:
                raise self._error(f"weight {weight.name!r} is not loaded; load the program's weights before it runs")
            slots[weight.value] = self._weights[weight.name]
        try:
            for index in range(len(self._steps)):
                self._execute(index, slots)
                if watch is not None:
                    watch(index, [slots[value] for value in self._program.instructions[index].results])
                for value in self._steps[index][3]:
                    slots[value] = None
            return {output.name: slots[output.value] for output in self._program.outputs}
        finally:
            slots.clear()  # the traceback of an error keeps the list alive, and must not keep the chips full

    def release(self) -> None:
        """Gives back the buffers that instructions share on the chips; the next run resolves them again."""
        self._steps = []

    def _resolve(self) -> list[Step]:
        context = Context(self._mesh)
        return [self._step(index, op, context) for index, op in enumerate(self._program.instructions)]

    def _execute(self, index: int, slots: list[Any]) -> None:
        function, operands, results, _ = self._steps[index]
        try:
            outcome = function(*[slots[i] for i in operands])
            if isinstance(results, int):
                slots[results] = outcome
            else:
                for i, result in zip(results, outcome, strict=True):
                    slots[i] = result
        except Exception as error:  # whatever ttnn raises: the program and the op are what the reader needs
            error.__traceback__ = None  # ttnn's own frames hold the operands
            raise self._failure(index, slots, error) from error

    def _step(self, index: int, instruction: Instruction, context: Context) -> Step:
        if instruction.op not in OPS:
            problem = f"the ttnn backend has no op {instruction.op!r}; compile the bundle with this version"
            raise self._error(f"{_where(index, instruction)}: {problem}")
        try:
            function = OPS[instruction.op](instruction.attrs, context)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            problem = f"attributes {instruction.attrs} are not those of {instruction.op}: {error!r}"
            raise self._error(f"{_where(index, instruction)}: {problem}") from error
        if may_be_defective(instruction.op):
            function = self._refusing_defects(function, instruction)
        results = instruction.results
        target = results[0] if len(results) == 1 else tuple(results)
        return function, tuple(instruction.operands), target, tuple(instruction.free)

    def _refusing_defects(self, function: Call, instruction: Instruction) -> Call:
        """`function`, unless the operands that it is called with meet a known defect of the ttnn that is installed."""
        rows, columns = self._mesh.shape

        def call(*tensors: ttnn.Tensor) -> Any:
            shapes = [tuple(tensor.shape) for tensor in tensors]
            defect = known_defect(instruction.op, instruction.attrs, shapes, (rows, columns), self._ttnn_version)
            if defect is not None:
                raise BackendError(f"it would be wrong on chips: {defect}; compile the bundle again with this version")
            return function(*tensors)

        return call

    def _check_input(self, name: str, spec: TensorSpec, inputs: Mapping[str, ttnn.Tensor]) -> None:
        if name not in inputs:
            raise self._error(f"expected an input {name!r}, seen {', '.join(inputs) or 'none'}")
        problem = mismatch(inputs[name], spec)
        if problem:
            raise self._error(f"input {name!r}: {problem}")

    def _failure(self, index: int, slots: list[Any], error: Exception) -> BackendError:
        instruction = self._program.instructions[index]
        operands = ", ".join(describe(slots[i]) for i in instruction.operands)
        call = f"{instruction.op}({operands}) {instruction.attrs}"
        return self._error(f"{_where(index, instruction)}: {call} failed: {reason(error)}")

    def _error(self, problem: str) -> BackendError:
        return BackendError(f"program {self._program.name!r}: {problem}")


def _where(index: int, instruction: Instruction) -> str:
    return f"instruction {index} ({instruction.loc})"


def _values(program: Program) -> list[int]:
    """Every value id that the program defines."""
    inputs, weights = ([source.value for source in sources] for sources in (program.inputs, program.weights))
    return inputs + weights + [value for instruction in program.instructions for value in instruction.results]
