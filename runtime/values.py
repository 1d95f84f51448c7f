"""Whether what programs make are numbers: which program, or which instruction, was the first to make none."""

from collections.abc import Mapping

import numpy as np

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Backend, Executable, Value
from mochi_aot.runtime.errors import NumbersError


class ValueCheck:
    """Runs programs and looks at what they make.

    Looks at each output where values are in the host's memory; with `every_instruction`, at the results of each
    instruction, wherever they are. No program makes an infinity on purpose: what masks is a low finite number.
    """

    def __init__(self, backend: Backend, every_instruction: bool = False) -> None:
        self._backend, self._every = backend, every_instruction

    def run(
        self, executable: Executable, program: Program, inputs: Mapping[str, Value], when: str = ""
    ) -> dict[str, Value]:
        """Return outputs by name. `when`, such as "step 1 of 64", goes into messages. Raise NumbersError."""
        if not self._every:
            outputs = executable.run(inputs)
            if self._backend.on_host:
                self.check_outputs(program, outputs, when)
            return outputs

        def watch(index: int, results: list[Value]) -> None:
            self._check_instruction(program, index, results, when)

        return executable.run(inputs, watch)

    def check_outputs(self, program: Program, outputs: Mapping[str, Value], when: str = "") -> None:
        """Raise NumbersError for the first output that is not finite."""
        for output in program.outputs:
            kinds = self._backend.nonfinite(outputs[output.name])
            if kinds:
                raise not_finite(program.name, " and ".join(kinds), when)

    def _check_instruction(self, program: Program, index: int, results: list[Value], when: str) -> None:
        instruction = program.instructions[index]
        kinds = [kind for result in results for kind in self._backend.nonfinite(result)]
        if kinds:
            weights = [weight.name for weight in program.weights if weight.value in instruction.operands]
            read = f"; it reads {' and '.join(weights)}" if weights else ""
            made = f"{instruction.op} is the first that made {' and '.join(dict.fromkeys(kinds))}{read}"
            where = f"instruction {index} ({instruction.loc})"
            raise NumbersError(f"program {program.name!r}{_during(when)}, {where}: {made}")


def kinds_of(array: np.ndarray) -> list[str]:
    """Return which of "NaN", "inf" and "-inf" are in an array of numbers."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return []
    present = {"NaN": np.isnan(array), "inf": array == np.inf, "-inf": array == -np.inf}
    return [name for name, where in present.items() if where.any()]


def check_array(program: str, array: np.ndarray) -> None:
    """Raise NumbersError for an array that came from `program` and is not finite."""
    kinds = kinds_of(array)
    if kinds:
        raise not_finite(program, " and ".join(kinds))


def not_finite(program: str, seen: str, when: str = "") -> NumbersError:
    """Return the error for a program that made `seen`."""
    made = f"program {program!r} is the first that made numbers which are not finite ({seen}){_during(when)}"
    return NumbersError(f"{made}; --check-values names the instruction, and mochi-compile checks weights")


def _during(when: str) -> str:
    return f" in {when}" if when else ""
