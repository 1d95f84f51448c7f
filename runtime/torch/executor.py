"""Runs an instruction list. All that can be looked up is looked up once, when the program is loaded."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.resolve import resolve
from mochi_aot.runtime.torch.types import DTYPES, Value

# The callable, operand slots, result slot or slots, slots to clear afterwards.
Step = tuple[Callable[..., Any], tuple[int, ...], int | tuple[int, ...], tuple[int, ...]]


class TorchExecutable:
    """A program over a mesh. Slots hold what each value id stands for: a Value, or on one device its only tensor."""

    def __init__(
        self,
        program: Program,
        mesh: Mesh,
        weights: Mapping[str, Value],
        there: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """`weights` is read at each run; asking it for a weight that is not `there` may take a while.

        Raises BackendError for an op that is not in the tables.
        """
        self._program, self._mesh, self._weights, self._there = program, mesh, weights, there
        self._single = mesh.size == 1
        self._steps = [
            _step(instruction, mesh, f"program {program.name!r}, instruction {index} ({instruction.loc})")
            for index, instruction in enumerate(program.instructions)
        ]
        self._slots = 1 + max(_values(program), default=-1)
        self._uses = _first_uses(program)

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        """Outputs by name. BackendError for a missing or misshapen input, a weight not loaded, or an op that fails.

        `watch` is called with each instruction's index and results, before any value is freed after it.
        """
        slots: list[Any] = [None] * self._slots
        for source in self._program.inputs:
            self._check_input(source.name, source.spec, inputs)
            slots[source.value] = self._slot(inputs[source.name])
        for weight in self._program.weights:
            if weight.name not in self._weights:
                raise self._error(f"weight {weight.name!r} is not loaded; load the program's weights before it runs")
        with torch.inference_mode():
            self._execute_as_weights_arrive(slots, watch)
        return {
            output.name: [slots[output.value]] if self._single else slots[output.value]
            for output in self._program.outputs
        }

    def _execute_as_weights_arrive(self, slots: list[Any], watch: Watch | None) -> None:
        """Runs up to the first instruction that reads a weight which is not there yet, waits for it, and so on."""
        done = 0
        for index, name, value in self._uses:
            if not self._there(name):
                self._execute(slots, done, index, watch)
                done = index
            slots[value] = self._slot(self._weights[name])
        self._execute(slots, done, len(self._steps), watch)

    def _execute(self, slots: list[Any], start: int, stop: int, watch: Watch | None) -> None:
        step = None
        try:
            for step in self._steps[start:stop]:
                fn, operands, results, dead = step
                outcome = fn(*[slots[i] for i in operands])
                if isinstance(results, int):
                    slots[results] = outcome
                else:
                    for i, result in zip(results, outcome, strict=True):
                        slots[i] = result
                if watch is not None:
                    self._show(step, slots, watch)
                for i in dead:
                    slots[i] = None
        except MochiError:  # the watcher's
            raise
        except Exception as error:  # whatever torch raises: the program and the op are what the reader needs
            raise self._failure([s is step for s in self._steps].index(True), slots, error) from error

    def _show(self, step: Step, slots: list[Any], watch: Watch) -> None:
        index = next(index for index, s in enumerate(self._steps) if s is step)
        results = [slots[i] for i in self._program.instructions[index].results]
        watch(index, [[slot] if self._single else slot for slot in results])

    def _slot(self, value: Value) -> Any:
        return value[0] if self._single else value

    def _check_input(self, name: str, spec: TensorSpec, inputs: Mapping[str, Value]) -> None:
        """All devices of a Value have the same shape, so the first is enough."""
        if name not in inputs:
            raise self._error(f"expected an input {name!r}, seen {', '.join(inputs) or 'none'}")
        tensor, count = inputs[name][0], len(inputs[name])
        if list(tensor.shape) != spec.local_shape or tensor.dtype is not DTYPES[spec.dtype] or count != self._mesh.size:
            expected = f"{spec.dtype}{spec.local_shape} on {self._mesh.size} devices"
            raise self._error(f"input {name!r}: expected {expected}, seen {_describe(tensor)} on {count}")

    def _failure(self, index: int, slots: list[Any], error: Exception) -> BackendError:
        instruction = self._program.instructions[index]
        operands = ", ".join(_describe(self._tensor(slots[i])) for i in instruction.operands)
        reason = str(error).partition("\n")[0] or type(error).__name__
        where = f"instruction {index} ({instruction.loc})"
        return self._error(f"{where}: {instruction.op}({operands}) {instruction.attrs} failed: {reason}")

    def _tensor(self, slot: Any) -> Any:
        return slot if self._single or slot is None else slot[0]

    def _error(self, problem: str) -> BackendError:
        return BackendError(f"program {self._program.name!r}: {problem}")


def _step(instruction: Instruction, mesh: Mesh, where: str) -> Step:
    results = instruction.results
    target = results[0] if len(results) == 1 else tuple(results)
    return resolve(instruction, mesh, where), tuple(instruction.operands), target, tuple(instruction.free)


def _first_uses(program: Program) -> list[tuple[int, str, int]]:
    """Index of the first instruction that reads it, name and value of each weight, in the order of these indices."""
    end = len(program.instructions)
    first: dict[int, int] = {}
    for index, instruction in enumerate(program.instructions):
        for value in instruction.operands:
            first.setdefault(value, index)
    return sorted((first.get(weight.value, end), weight.name, weight.value) for weight in program.weights)


def _values(program: Program) -> list[int]:
    """Every value id that the program defines."""
    inputs, weights = ([source.value for source in sources] for sources in (program.inputs, program.weights))
    return inputs + weights + [value for instruction in program.instructions for value in instruction.results]


def _describe(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
