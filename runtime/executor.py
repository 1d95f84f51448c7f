"""Runs an instruction list. All that can be looked up is looked up once, when the program is loaded."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.runtime.backend import Value, Watch
from mochi_aot.runtime.errors import BackendError, RefusalError

# An instruction as a backend computes it: the slots of its operands in, what goes into the slot of its result out, or
# a sequence of these where it has several results.
Call = Callable[..., Any]
Build = Callable[[Instruction], Call | None]

# What Python and the backends' libraries raise for a value of a wrong type or size, where an op's attributes are read.
_BAD_ATTRIBUTES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

# The call, operand slots, result slot or slots, slots to clear afterwards, and the instruction's index.
Step = tuple[Call, tuple[int, ...], int | tuple[int, ...], tuple[int, ...], int]


def _always(name: str) -> bool:
    return True


class InstructionExecutor(ABC):
    """A loaded program. Backends say how an instruction becomes a call, and how values are checked and described.

    Slots hold what the value ids stand for. A value is freed by clearing its slot: whatever else still uses the same
    memory, such as a reshape of it, keeps that alive.
    """

    backend: str  # its name, in messages

    def __init__(
        self, program: Program, weights: Mapping[str, Value], is_loaded: Callable[[str], bool] = _always
    ) -> None:
        """Read `weights` at each run. A weight for which `is_loaded` is false is asked for as late as at its first use.

        Raise RefusalError for an op or attributes that the backend does not know.
        """
        self._program, self._weights, self._is_loaded = program, weights, is_loaded
        self._first_uses = _first_uses(program)
        self._slot_count = 1 + max(_values(program), default=-1)
        self._steps = self._resolve()

    def run(self, inputs: Mapping[str, Value], watch: Watch | None = None) -> dict[str, Value]:
        """Return outputs by name.

        `watch` is called with each instruction's index and results, before any value is freed after it; what it raises
        ends the run. Raise BackendError for a missing or misshapen input and for a weight not loaded, and RefusalError,
        or what else `_kind` says, for an op that fails.
        """
        self._steps = self._steps or self._resolve()
        slots: list[Any] = [None] * self._slot_count
        for source in self._program.inputs:
            self._check_input(source.name, source.spec, inputs)
            slots[source.value] = self._slot(inputs[source.name])
        for weight in self._program.weights:
            if weight.name not in self._weights:
                raise self._error(f"weight {weight.name!r} is not loaded; load the program's weights before it runs")
        try:
            self._execute_as_weights_arrive(slots, watch)
            return {output.name: self._value(slots[output.value]) for output in self._program.outputs}
        finally:
            slots.clear()  # the traceback of an error keeps the list alive, and must not keep the devices full

    def release(self) -> None:
        """Give back what resolved instructions hold on the devices; the next run resolves them again."""
        self._steps = []

    @abstractmethod
    def _builder(self) -> Build:
        """Return what makes the call of each instruction in turn, and None for an unknown op.

        Errors of these kinds mean attributes that are not those of the op: see _BAD_ATTRIBUTES.
        """

    @abstractmethod
    def _mismatch(self, value: Value, spec: TensorSpec) -> str | None:
        """Return "expected ..., seen ..." for a value that is not as `spec` says, and None for one that is."""

    @abstractmethod
    def _describe(self, slot: Any) -> str:
        """Return the dtype and shape of what is in a slot that is not empty."""

    @abstractmethod
    def _reason(self, error: Exception) -> str:
        """Return what an error of the backend's library says, on one line."""

    def _kind(self, error: Exception) -> type[BackendError]:
        """Return what an error of the backend's library is."""
        return RefusalError

    def _slot(self, value: Value) -> Any:
        """Return what stands for a value in its slot."""
        return value

    def _value(self, slot: Any) -> Value:
        """Return the value that is in a slot."""
        return slot

    def _resolve(self) -> list[Step]:
        build = self._builder()
        return [self._step(build, index, instruction) for index, instruction in enumerate(self._program.instructions)]

    def _step(self, build: Build, index: int, instruction: Instruction) -> Step:
        op, results = instruction.op, instruction.results
        try:
            call = build(instruction)
        except _BAD_ATTRIBUTES as error:
            problem = f"attributes {instruction.attrs} are not those of {op}: {error!r}"
            raise self._instruction_error(index, problem) from error
        if call is None:
            problem = f"the {self.backend} backend has no op {op!r}; compile the bundle with this version"
            raise self._instruction_error(index, problem)
        target = results[0] if len(results) == 1 else tuple(results)
        return call, tuple(instruction.operands), target, tuple(instruction.free), index

    def _execute_as_weights_arrive(self, slots: list[Any], watch: Watch | None) -> None:
        """Run up to the first instruction that reads a weight which is not loaded yet, wait for it, and so on."""
        done = 0
        for index, name, value in self._first_uses:
            if not self._is_loaded(name):
                self._execute_range(slots, done, index, watch)
                done = index
            slots[value] = self._slot(self._weights[name])
        self._execute_range(slots, done, len(self._steps), watch)

    def _execute_range(self, slots: list[Any], start: int, stop: int, watch: Watch | None) -> None:
        steps = self._steps[start:stop]
        if watch is None:
            self._execute(slots, steps)
            return
        for call, operands, results, dead, index in steps:
            self._execute(slots, [(call, operands, results, (), index)])  # what is dead is shown before it is freed
            watch(index, [self._value(slots[i]) for i in self._program.instructions[index].results])
            for i in dead:
                slots[i] = None

    def _execute(self, slots: list[Any], steps: Sequence[Step]) -> None:
        """Run these steps: the loop whose cost is the runtime's own. No local may outlive its value's slot."""
        index = -1
        try:
            for call, operands, results, dead, index in steps:  # noqa: B007 - that of a step that fails
                if isinstance(results, int):
                    slots[results] = call(*[slots[i] for i in operands])
                else:
                    _store(slots, results, call(*[slots[i] for i in operands]))
                for i in dead:
                    slots[i] = None
        except Exception as error:  # whatever the backend raises: the program and the op are what the reader needs
            error.__traceback__ = None  # the frames of the call hold the operands
            raise self._failure(index, slots, error) from error

    def _check_input(self, name: str, spec: TensorSpec, inputs: Mapping[str, Value]) -> None:
        if name not in inputs:
            raise self._error(f"expected an input {name!r}, seen {', '.join(inputs) or 'none'}")
        problem = self._mismatch(inputs[name], spec)
        if problem:
            raise self._error(f"input {name!r}: {problem}")

    def _failure(self, index: int, slots: list[Any], error: Exception) -> BackendError:
        instruction = self._program.instructions[index]
        seen = (slots[i] for i in instruction.operands)
        operands = ", ".join("nothing" if slot is None else self._describe(slot) for slot in seen)
        call = f"{instruction.op}({operands}) {instruction.attrs}"
        return self._instruction_error(index, f"{call} failed: {self._reason(error)}", self._kind(error))

    def _instruction_error(self, index: int, problem: str, kind: type[BackendError] = RefusalError) -> BackendError:
        where = f"program {self._program.name!r}: instruction {index} ({self._program.instructions[index].loc})"
        return kind(f"{where}: {problem}")

    def _error(self, problem: str) -> BackendError:
        return BackendError(f"program {self._program.name!r}: {problem}")


def _store(slots: list[Any], results: Sequence[int], outcome: Sequence[Any]) -> None:
    for i, result in zip(results, outcome, strict=True):
        slots[i] = result


def _first_uses(program: Program) -> list[tuple[int, str, int]]:
    """Return the index of the first instruction that reads it, name and value of each weight, in order of the index."""
    end = len(program.instructions)
    first: dict[int, int] = {}
    for index, instruction in enumerate(program.instructions):
        for value in instruction.operands:
            first.setdefault(value, index)
    return sorted((first.get(weight.value, end), weight.name, weight.value) for weight in program.weights)


def _values(program: Program) -> list[int]:
    """Return every value id that the program defines."""
    inputs, weights = ([source.value for source in sources] for sources in (program.inputs, program.weights))
    return inputs + weights + [value for instruction in program.instructions for value in instruction.results]
