"""What a run did when: spans of time, from the process's start on, and what it read."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts import timeline
from mochi_aot.artifacts.timeline import MAIN, seconds_by_name

READER, CHECKER = "weights", "check of weights"
READ, CHECK, WAIT, STEP = "read", "check", "wait for weights", "step"


@dataclass(frozen=True)
class Span(timeline.Span):
    """Of `nbytes` read, `from_disk` came from the disk."""

    nbytes: int = 0
    from_disk: int = 0

    @property
    def details(self) -> dict[str, Any]:
        """What a trace shows of bytes that were read."""
        return {"bytes": self.nbytes, "from_disk": self.from_disk} if self.nbytes else {}


class Ledger(timeline.Timeline[Span]):
    """Threads may record side by side: a span is one append."""

    def __init__(self) -> None:
        super().__init__()
        self.read_limit: float | None = None  # bytes a second that the disk can give; None where nobody measured it

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record how long the block took, unless it raised."""
        start = self.now()
        yield
        self.add(name, start)

    def add(self, name: str, start: float, row: str = MAIN, nbytes: int = 0, from_disk: int = 0) -> None:
        """Record a span from `start`, as `now` gave it, until now."""
        self.spans.append(Span(name, row, start, self.now() - start, nbytes, from_disk))

    def numbers(self) -> dict[str, Any]:
        """Return seconds by name, in the order of their first span; the steps one by one; and what the reader read."""
        spans = [span for span in self.spans if span.row == MAIN and span.name not in (STEP, WAIT)]
        steps = [span.seconds for span in self.spans if span.name == STEP]
        return {
            "seconds": seconds_by_name(spans),
            "steps": {"all": steps, "first": steps[0], "median": statistics.median(steps)} if steps else {"all": []},
            "weights": self._weights(),
            "at": dict(self.marks),
            "total": self.now(),
        }

    def taken(self) -> list[Span]:
        """Return the spans so far, and forget them; threads may add others meanwhile."""
        spans = self.spans[:]
        del self.spans[: len(spans)]
        return spans

    def profile(self) -> dict[str, Any]:
        """Return a Chrome trace; its key `ledger` has `numbers`."""
        return {"traceEvents": self.trace_events(), "displayTimeUnit": "ms", "ledger": self.numbers()}

    def bytes_from_disk(self) -> int:
        """Return the bytes from the disk of all that the reader read."""
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
