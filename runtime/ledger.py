"""What a process did when: spans of time, from its start on, on rows that run side by side."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAIN, READER = "main", "weights"
READ, WAIT, STEP = "read", "wait for weights", "step"


@dataclass(frozen=True)
class Span:
    """`start` is in seconds after the process started; for `nbytes` read, `from_disk` came from the disk."""

    name: str
    row: str
    start: float
    seconds: float
    nbytes: int = 0
    from_disk: int = 0


class Ledger:
    """Threads may record side by side: a span is one append."""

    def __init__(self) -> None:
        self.read_limit: float | None = None  # bytes a second that the disk can give; None where nobody measured it
        self.spans: list[Span] = []
        self.marks: dict[str, float] = {}
        self._started = process_start()

    def now(self) -> float:
        """Seconds since the process started."""
        return time.perf_counter() - self._started

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Records how long the block took, unless it raised."""
        start = self.now()
        yield
        self.add(name, start)

    def add(self, name: str, start: float, row: str = MAIN, nbytes: int = 0, from_disk: int = 0) -> None:
        """Record a span from `start`, as `now` gave it, until now."""
        self.spans.append(Span(name, row, start, self.now() - start, nbytes, from_disk))

    def mark(self, name: str) -> None:
        """Record when something happened first."""
        self.marks.setdefault(name, self.now())

    def seconds(self, name: str) -> float:
        """Of all spans of this name together."""
        return sum(span.seconds for span in self.spans if span.name == name)

    def numbers(self) -> dict[str, Any]:
        """Seconds by name, in the order of their first span; the steps one by one; and what the reader read."""
        names = dict.fromkeys(span.name for span in self.spans if span.row == MAIN and span.name not in (STEP, WAIT))
        steps = [span.seconds for span in self.spans if span.name == STEP]
        return {
            "seconds": {name: self.seconds(name) for name in names},
            "steps": {"all": steps, "first": steps[0], "median": statistics.median(steps)} if steps else {"all": []},
            "weights": self._weights(),
            "at": dict(self.marks),
            "total": self.now(),
        }

    def profile(self) -> dict[str, Any]:
        """A Chrome trace, which chrome://tracing and Perfetto open; its key `ledger` has `numbers`."""
        rows = list(dict.fromkeys([MAIN, *(span.row for span in self.spans)]))
        named = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": index, "args": {"name": row}}
            for index, row in enumerate(rows)
        ]
        marks = [
            {"ph": "i", "name": name, "pid": 1, "tid": 0, "ts": at * 1e6, "s": "p"} for name, at in self.marks.items()
        ]
        events = [_event(span, rows.index(span.row)) for span in self.spans]
        return {"traceEvents": named + events + marks, "displayTimeUnit": "ms", "ledger": self.numbers()}

    def bytes_from_disk(self) -> int:
        """Of all that the reader read."""
        return sum(span.from_disk for span in self.spans if span.name == READ)

    def _weights(self) -> dict[str, float]:
        nbytes, seconds = sum(span.nbytes for span in self.spans if span.name == READ), self.seconds(READ)
        numbers = {
            "bytes": nbytes,
            "from_disk": self.bytes_from_disk(),
            "seconds": seconds,
            "bytes_per_second": nbytes / seconds if seconds else 0.0,
            "waited": self.seconds(WAIT),
        }
        if self.read_limit is not None:
            numbers |= {"limit": self.read_limit, "share_of_limit": self.bytes_from_disk() / seconds / self.read_limit}
        return numbers


def process_start() -> float:
    """When this process started, on time.perf_counter's clock; where the kernel does not tell, now."""
    try:
        # The 22nd field, in ticks since the machine started; the second one, in parentheses, may hold anything.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        age = 0.0
    return time.perf_counter() - age


def _event(span: Span, row: int) -> dict[str, Any]:
    """A complete event of a Chrome trace, in microseconds."""
    event = {"ph": "X", "name": span.name, "pid": 1, "tid": row, "ts": span.start * 1e6, "dur": span.seconds * 1e6}
    return {**event, "args": {"bytes": span.nbytes, "from_disk": span.from_disk}} if span.nbytes else event
