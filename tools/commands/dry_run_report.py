"""The table of what a dry run found out about each program."""

from mochi_aot.runtime.ttnn.program_report import ProgramReport, refusal_text
from mochi_aot.tools.commands.text import human_bytes, table


def text(reports: list[ProgramReport]) -> str:
    """Return a table with a line for each program, and below the table what was refused and why."""
    header = ["geometry", "program", "ops", "accepted", "rejected", "weights", "peak", "after", "L1 peak", "built"]
    lines = [table([*header, "found", "seconds"], [_row(report) for report in reports])]
    lines.append("weights, peak and after are DRAM a chip; L1 peak counts tensors, not circular buffers")
    lines.append("built and found are kernels, each counted at its first use")
    lines += [refusal_text(report, report.refusal) for report in reports if report.refusal is not None]
    return "\n".join(lines)


def _row(report: ProgramReport) -> list[str]:
    counts = [str(count) for count in (report.ops, report.accepted, report.rejected)]
    sizes = [report.weight_bytes, report.peak_bytes, report.after_bytes, report.l1_peak_bytes]
    kernels = [str(count) for count in (report.kernels_built, report.kernels_found)]
    return [report.geometry, report.role, *counts, *map(human_bytes, sizes), *kernels, f"{report.seconds:.1f}"]
