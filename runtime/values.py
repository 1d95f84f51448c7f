"""Whether what programs make are numbers: which program, or which instruction, was the first to make none."""

from collections.abc import Mapping

import numpy as np

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Backend, Executable, Value
from mochi_aot.runtime.errors import NumbersError

# A number this low, put where a mask is not set, is as good as minus infinity, and may become it in bfloat16.
MASK_VALUE = -1e30
# Ops that hand on what a mask put into a value; what others make of it, such as a softmax, is finite again.
_HAND_ON = frozenset(
    ("add", "all_gather", "cast", "concat", "expand", "permute", "reshape", "select", "shard", "slice")
)


class ValueCheck:
    """Runs programs and looks at what they make.

    Looks at each output where values are in the host's memory; with `every_instruction`, at the results of each
    instruction, wherever they are.
    """

    def __init__(self, backend: Backend, every_instruction: bool = False) -> None:
        self._backend, self._every = backend, every_instruction

    def run(
        self, executable: Executable, program: Program, inputs: Mapping[str, Value], when: str = ""
    ) -> dict[str, Value]:
        """Outputs by name. `when`, such as "step 1 of 64", goes into messages. Raises NumbersError."""
        if not self._every:
            outputs = executable.run(inputs)
            if self._backend.on_host:
                self.check_outputs(program, outputs, when)
            return outputs

        def watch(index: int, results: list[Value]) -> None:
            self._check_instruction(program, index, results, when)

        return executable.run(inputs, watch)

    def check_outputs(self, program: Program, outputs: Mapping[str, Value], when: str = "") -> None:
        """Raises NumbersError for the first output that is not finite, but for minus infinities that a mask made."""
        for output in program.outputs:
            seen = self._seen(program, output.value, outputs[output.name])
            if seen:
                raise not_finite(program.name, seen, when)

    def _check_instruction(self, program: Program, index: int, results: list[Value], when: str) -> None:
        instruction = program.instructions[index]
        for value, result in zip(instruction.results, results, strict=True):
            seen = self._seen(program, value, result)
            if seen:
                weights = [weight.name for weight in program.weights if weight.value in instruction.operands]
                read = f"; it reads {' and '.join(weights)}" if weights else ""
                made = f"instruction {index} ({instruction.loc}), {instruction.op}, is the first that made {seen}"
                raise NumbersError(f"program {program.name!r}{_during(when)}: {made}{read}")

    def _seen(self, program: Program, value: int, result: Value) -> str:
        kinds = self._backend.nonfinite(result)
        if "-inf" in kinds and value in masks(program):
            kinds = [kind for kind in kinds if kind != "-inf"]
        return " and ".join(kinds)


def masks(program: Program) -> frozenset[int]:
    """The values that hold what a mask wrote over what is not to be attended, and so may be minus infinity there."""
    found: set[int] = set()
    for instruction in program.instructions:
        number = instruction.attrs.get("value")
        writes = instruction.op == "where_scalar" and isinstance(number, float) and number <= MASK_VALUE
        if writes or (instruction.op in _HAND_ON and not found.isdisjoint(instruction.operands)):
            found.update(instruction.results)
    return frozenset(found)


def kinds_of(array: np.ndarray) -> list[str]:
    """Which of "NaN", "inf" and "-inf" are in an array of numbers."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return []
    present = {"NaN": np.isnan(array), "inf": array == np.inf, "-inf": array == -np.inf}
    return [name for name, where in present.items() if where.any()]


def check_array(program: str, array: np.ndarray) -> None:
    """Raises NumbersError for an array that came from `program` and is not finite."""
    kinds = kinds_of(array)
    if kinds:
        raise not_finite(program, " and ".join(kinds))


def not_finite(program: str, seen: str, when: str = "") -> NumbersError:
    """The error for a program that made `seen`."""
    made = f"program {program!r} is the first that made numbers which are not finite ({seen}){_during(when)}"
    return NumbersError(f"{made}; --check-values names the instruction, and mochi-compile checks weights")


def _during(when: str) -> str:
    return f" in {when}" if when else ""
