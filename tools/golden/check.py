"""Compares each instruction of a bundle's programs with its definition, as they run on known inputs."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Watch
from mochi_aot.runtime.errors import BackendError
from mochi_aot.tools.golden.comparison import Compared, Comparison
from mochi_aot.tools.golden.known_run import KnownRun, Progress, Ready, no_progress
from mochi_aot.tools.golden.types import GoldenError


@dataclass(frozen=True)
class Found:
    """An instruction of a program, and how far its result is from its definition's on the chip where it is furthest."""

    instruction: int
    op: str
    loc: str
    chip: int
    pcc: float
    error: float | None  # None for another shape, or numbers that are not finite


@dataclass(frozen=True)
class ValuesReport:
    """A program whose instructions were compared: `departures` in order, `worst` by PCC, and why it ended early."""

    geometry: str
    role: str
    mesh: str
    tokens: tuple[int, int]
    instructions: int
    compared: int
    worst: Found | None
    departures: list[Found]
    seconds: float
    failure: str | None = None

    @property
    def right(self) -> bool:
        """Whether every instruction was compared, and none departs."""
        return self.failure is None and not self.departures


def check_programs(known: KnownRun, roles: Iterable[str], progress: Progress = no_progress) -> Iterator[ValuesReport]:
    """Yield a report for each of these programs, and those that they read from, of every geometry."""
    for ready in known.each(roles):
        started = time.monotonic()
        comparison, failure = None, ready.failure
        if failure is None:
            try:
                comparison = Comparison.of(ready.program, ready.inputs, ready.weights)
                known.run(ready, _told(comparison, ready.program, progress))
            except (BackendError, GoldenError) as error:
                failure = str(error)
        yield _report(ready, known.tokens, comparison, failure, time.monotonic() - started)


def _told(comparison: Comparison, program: Program, progress: Progress) -> Watch:
    """Return the comparison as a watch that says which instruction comes next."""
    progress(program, 0)

    def watch(index: int, results: list[Any]) -> None:
        comparison(index, results)
        progress(program, index + 1)

    return watch


def _report(
    ready: Ready, tokens: tuple[int, int], comparison: Comparison | None, failure: str | None, seconds: float
) -> ValuesReport:
    worst = None if comparison is None else comparison.worst
    return ValuesReport(
        geometry=ready.geometry,
        role=ready.role,
        mesh="x".join(map(str, ready.program.mesh)),
        tokens=tokens,
        instructions=len(ready.program.instructions),
        compared=0 if comparison is None else len(comparison.compared),
        worst=None if worst is None else _found(worst),
        departures=[] if comparison is None else [_found(one) for one in comparison.departures],
        seconds=round(seconds, 1),
        failure=failure,
    )


def _found(one: Compared) -> Found:
    instruction, agreement = one.instruction, one.agreement
    error = agreement.error if math.isfinite(agreement.error) else None
    return Found(one.index, instruction.op, instruction.loc, one.chip, agreement.pcc, error)
