"""What the reports of all benchmarks share: spreads of repeated measurements, and tables of these."""

import statistics
from typing import Any

from mochi_aot.tools.commands.text import table

SPREAD_KEYS = ("median", "low", "high")


def spread(values: list[float]) -> dict[str, float | list[float]]:
    """Return median, lowest, highest, and all values in the order in which they were measured."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "all": values}


def ratios(left: list[float], right: list[float]) -> list[float]:
    """Return left over right, repetition by repetition."""
    return [a / b for a, b in zip(left, right, strict=True)]


def spread_table(title: str, spreads: dict[str, dict[str, Any]], scale: float = 1.0, digits: int = 3) -> str:
    """Return a table with the name of each spread, its median, lowest and highest."""
    rows = [[name, *(f"{item[key] * scale:.{digits}f}" for key in SPREAD_KEYS)] for name, item in spreads.items()]
    return table([title, "median", "lowest", "highest"], rows)


def machine_line(numbers: dict[str, Any]) -> str:
    """Return on what a benchmark ran, as describe_machine says it."""
    return ", ".join(f"{key} {value}" for key, value in numbers["machine"].items())
