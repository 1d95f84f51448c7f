"""The pipeline: every pass has a name; what a pass made is verified, and told to whoever follows the compile."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify


@dataclass(frozen=True)
class Applied:
    """One program that a pass has made. `scope` says what is being compiled: the geometry.

    `start` is on time.perf_counter's clock. `seconds` are the pass's own, without verifying; a pass that makes several
    programs has its seconds on the first of them.
    """

    scope: str
    name: str
    program: Program
    start: float
    seconds: float


AfterPass = Callable[[Applied], None]


class Pipeline:
    """Applies passes, by name, to the programs of one geometry. Verifies each result: an IRError is a pass's fault."""

    def __init__(self, scope: str = "", after: AfterPass = lambda applied: None, verified: bool = True) -> None:
        """`after` is called after each pass, once for each program that the pass has made.

        Verifying takes as long as the passes. Without it programs are for estimates: what is compiled is verified.
        """
        self._scope, self._after, self._verified = scope, after, verified

    def start(self, name: str, make: Callable[[], Program]) -> Program:
        """Return the program that `make` makes of something that is no program."""
        return self._made(name, lambda: {"": make()})[""]

    def apply(self, name: str, change: Callable[[Program], Program], program: Program) -> Program:
        """Return what `change` makes of `program`."""
        return self._made(name, lambda: {"": change(program)})[""]

    def split(self, name: str, change: Callable[[Program], dict[str, Program]], program: Program) -> dict[str, Program]:
        """Return the programs into which `change` divides `program`."""
        return self._made(name, lambda: change(program))

    def _made(self, name: str, make: Callable[[], dict[str, Program]]) -> dict[str, Program]:
        start = time.perf_counter()
        programs = make()
        seconds = time.perf_counter() - start
        for program in programs.values():
            if self._verified:
                verify(program)
            self._after(Applied(self._scope, name, program, start, seconds))
            seconds = 0.0
        return programs
