"""Comparing how long two things take, on a machine whose speed changes from minute to minute."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WARM_UPS = 2
SPREAD_KEYS = ("median", "low", "high")


@dataclass(frozen=True)
class Comparison:
    """Seconds of each repetition of two contenders; repetition i of one ran right beside repetition i of the other."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Their time over our time, repetition by repetition: above 1 where we are faster."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]


def compare(ours: Callable[[], object], theirs: Callable[[], object], repetitions: int) -> Comparison:
    """Wall time of both, in turns, after WARM_UPS runs of each; who goes first changes every time.

    Neighbours in time see the same load and clock speed, so ratios hold where absolute times do not.
    """
    for _ in range(WARM_UPS):
        ours()
        theirs()
    seconds: dict[Callable[[], object], list[float]] = {ours: [], theirs: []}
    for index in range(repetitions):
        for contender in (ours, theirs) if index % 2 == 0 else (theirs, ours):
            seconds[contender].append(seconds_of(contender))
    return Comparison(seconds[ours], seconds[theirs])


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float | list[float]]:
    """Median, lowest, highest, and all values in the order in which they were measured."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "all": values}


def spread_rows(spreads: dict[str, dict[str, Any]], scale: float = 1.0) -> list[list[str]]:
    """Cells of a table: the name of each spread, its median, lowest and highest."""
    return [[name, *(f"{item[key] * scale:.3f}" for key in SPREAD_KEYS)] for name, item in spreads.items()]
