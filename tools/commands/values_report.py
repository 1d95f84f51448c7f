"""The table of how the instructions of each program agree with their definitions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mochi_aot.tools.commands.text import table

if TYPE_CHECKING:
    from mochi_aot.tools.golden.check import Found, ValuesReport


def text(reports: Sequence["ValuesReport"]) -> str:
    """Return a table with a line for each program, and below it the first departure of each, or why it ended early."""
    header = ["geometry", "program", "mesh", "tokens", "compared", "least PCC", "of", "departures", "seconds"]
    return "\n".join([table(header, [_row(report) for report in reports]), *findings(reports)])


def _row(report: "ValuesReport") -> list[str]:
    worst = report.worst
    least = ["-", "-"] if worst is None else [f"{worst.pcc:.6f}", worst.op]
    tokens = "{}, {}".format(*report.tokens)
    compared = f"{report.compared} of {report.instructions}"
    departures = str(len(report.departures))
    return [report.geometry, report.role, report.mesh, tokens, compared, *least, departures, f"{report.seconds:.0f}"]


def summary(report: "ValuesReport") -> str:
    """Return a line, or a few, about one program: how much of it was compared, and what is wrong with it."""
    least = "" if report.worst is None else f", least PCC {report.worst.pcc:.6f}"
    told = f"{report.role}: {report.compared} of {report.instructions} instructions compared{least}"
    return "\n".join([told, *findings([report])])


def findings(reports: Sequence["ValuesReport"]) -> list[str]:
    """Return a line for each program with a departure, and for each that ended early."""
    lines = []
    for report in reports:
        if report.departures:
            lines.append(f"first departure: {report.role}, {_described(report.departures[0])}")
        if report.failure is not None:
            lines.append(f"failed: {report.role}: {report.failure}")
    return lines


def _described(found: "Found") -> str:
    what = f"instruction {found.instruction}, {found.op} ({found.loc})"
    error = "numbers that are not finite, or too many" if found.error is None else f"relative error {found.error:.2g}"
    return f"{what}: PCC {found.pcc:.6f}, {error} on chip {found.chip}"
