"""What a process did when: spans of time since its start, on rows that run side by side, as a Chrome trace."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAIN = "main"


@dataclass(frozen=True)
class Span:
    """`start` is in seconds after the process started."""

    name: str
    row: str
    start: float
    seconds: float

    @property
    def details(self) -> dict[str, Any]:
        """What a trace shows of this span beside its name and times."""
        return {}


class Timeline[S: Span]:
    """Spans and marks of one process. Threads may record side by side: recording a span is one append."""

    def __init__(self) -> None:
        self.spans: list[S] = []
        self.marks: dict[str, float] = {}
        self._started = process_start()

    def now(self) -> float:
        """Return the seconds since the process started."""
        return time.perf_counter() - self._started

    def mark(self, name: str) -> None:
        """Record when something happened first."""
        self.marks.setdefault(name, self.now())

    def seconds(self, name: str) -> float:
        """Return the seconds of all spans of this name together."""
        return sum(span.seconds for span in self.spans if span.name == name)

    def trace_events(self) -> list[dict[str, Any]]:
        """Return the events of a Chrome trace, which chrome://tracing and Perfetto open; times are in microseconds."""
        rows = list(dict.fromkeys([MAIN, *(span.row for span in self.spans)]))
        named = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": index, "args": {"name": row}}
            for index, row in enumerate(rows)
        ]
        marks = [
            {"ph": "i", "name": name, "pid": 1, "tid": 0, "ts": at * 1e6, "s": "p"} for name, at in self.marks.items()
        ]
        return named + [_event(span, rows.index(span.row)) for span in self.spans] + marks


def process_start() -> float:
    """Return when this process started, on time.perf_counter's clock; now, where the kernel does not tell."""
    try:
        # The 22nd field, in ticks since the machine started; the second one, in parentheses, may hold anything.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        age = 0.0
    return time.perf_counter() - age


def process_seconds() -> float:
    """Return the seconds since this process started, what it has imported included."""
    return time.perf_counter() - process_start()


def seconds_by_name(spans: Iterable[Span]) -> dict[str, float]:
    """Return the seconds of all spans of each name together, in the order of each name's first span."""
    totals: dict[str, float] = {}
    for span in spans:
        totals[span.name] = totals.get(span.name, 0.0) + span.seconds
    return totals


def _event(span: Span, row: int) -> dict[str, Any]:
    """Return a complete event of a Chrome trace."""
    event = {"ph": "X", "name": span.name, "pid": 1, "tid": row, "ts": span.start * 1e6, "dur": span.seconds * 1e6}
    return {**event, "args": span.details} if span.details else event
