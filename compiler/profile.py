"""What a compile took: seconds of each phase, of each pass and of each program."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.timeline import MAIN, Span, Timeline, seconds_by_name
from mochi_aot.compiler.passes.pipeline import Applied

PASSES = "passes"
START = "start"


@dataclass(frozen=True)
class CompileSpan(Span):
    """A phase, or what was done to one `program` of one `geometry`."""

    geometry: str = ""
    program: str = ""

    @property
    def details(self) -> dict[str, Any]:
        """What a trace shows beside name and times."""
        return {"geometry": self.geometry, "program": self.program} if self.program else {}


def check_profile_place(path: Path) -> None:
    """Raise BundleError unless a profile can be written to `path`, before the work that it is about."""
    if path.is_dir():
        raise BundleError(f"the profile {path} is a folder; give a file name in it")
    if not path.parent.is_dir():
        raise BundleError(f"the profile's folder {path.parent} does not exist; make it first")


class Profile(Timeline[CompileSpan]):
    """Phases follow one another from the process's start on; the first one, `start`, is what came before compiling."""

    def __init__(self) -> None:
        super().__init__()
        self._phase, self._since = START, 0.0

    def phase(self, name: str) -> None:
        """Record that the phase so far has ended and that another one begins."""
        now = self.now()
        self.spans.append(CompileSpan(self._phase, MAIN, self._since, now - self._since))
        self._phase, self._since = name, now

    def after_pass(self, applied: Applied) -> None:
        """Record a pass: see passes.pipeline.AfterPass."""
        start = applied.start - self._started
        span = CompileSpan(applied.name, PASSES, start, applied.seconds, applied.scope, applied.program.name)
        self.spans.append(span)

    @contextmanager
    def step(self, name: str, geometry: str, program: str) -> Iterator[None]:
        """Record how long the block took, of work on one program that is no pass."""
        start = self.now()
        yield
        self.spans.append(CompileSpan(name, PASSES, start, self.now() - start, geometry, program))

    def numbers(self) -> dict[str, Any]:
        """Return seconds: of each phase, of each pass over all programs, and of each program over all passes."""
        steps = [span for span in self.spans if span.row == PASSES]
        programs: dict[str, dict[str, float]] = {}
        for span in steps:
            of_geometry = programs.setdefault(span.geometry, {})
            of_geometry[span.program] = of_geometry.get(span.program, 0.0) + span.seconds
        return {
            "seconds": seconds_by_name(span for span in self.spans if span.row == MAIN),
            "passes": seconds_by_name(steps),
            "programs": programs,
            "total": self.now(),
        }

    def write(self, path: Path) -> None:
        """Write a Chrome trace, with `numbers` as its key `ledger`. Raise BundleError if that fails.

        The file appears whole or not at all, and replaces one that is there.
        """
        self.phase("")
        profile = {"traceEvents": self.trace_events(), "displayTimeUnit": "ms", "ledger": self.numbers()}
        with os_errors(f"write {path}"), replacing(path) as new:
            new.write_text(json.dumps(profile) + "\n")
