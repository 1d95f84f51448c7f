"""Comparing how long two things take, on a machine whose speed changes from minute to minute."""

import time
from collections.abc import Callable
from dataclasses import dataclass

WARM_UPS = 2


@dataclass(frozen=True)
class Comparison:
    """Seconds of each repetition of two things; repetition i of one ran right beside repetition i of the other."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Return their time over our time, repetition by repetition: above 1 where we are faster."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]


def compare(ours: Callable[[], object], theirs: Callable[[], object], repetitions: int) -> Comparison:
    """Return the wall time of both, run in turns, after WARM_UPS runs of each; who goes first changes every time.

    Neighbours in time see the same load and clock speed, so ratios hold where absolute times do not.
    """
    for _ in range(WARM_UPS):
        ours()
        theirs()
    seconds: dict[Callable[[], object], list[float]] = {ours: [], theirs: []}
    for index in range(repetitions):
        for run in (ours, theirs) if index % 2 == 0 else (theirs, ours):
            seconds[run].append(seconds_of(run))
    return Comparison(seconds[ours], seconds[theirs])


def seconds_of(run: Callable[[], object]) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
