"""What a step is doing, in a file that the process which watches it reads: a step that hangs can say nothing itself."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program


class ProgressFile:
    """Says in one line what comes next."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, doing: str) -> None:
        """Write a line whole: whoever reads sees this one or the one before."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(doing))
        os.replace(new, self._path)

    def read(self) -> str:
        """Return the line; empty before the first one."""
        return str(json.loads(self._path.read_text())) if self._path.exists() else ""

    def instruction(self, program: Program, index: int) -> None:
        """Say which instruction of a program comes next."""
        if index < len(program.instructions):
            one = program.instructions[index]
            self.say(f"program {program.name}, instruction {index}, {one.op} ({one.loc})")
        else:
            self.say(f"program {program.name}, after its last instruction")

    def weights_of(self, bundle: Bundle) -> Callable[[str], None]:
        """Return what says which weight is loaded next, with its file."""
        return lambda name: self.say(f"loading weight {name} from {bundle.tensor_file(name)}")
