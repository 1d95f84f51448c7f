"""What a dry run finds out about each program."""

from dataclasses import dataclass

from mochi_aot.tools.commands.text import human_bytes, table


@dataclass(frozen=True)
class Refusal:
    """What stopped a program. `instruction`, with its op and source line, is None where none was being run."""

    reason: str
    instruction: int | None = None
    op: str | None = None
    loc: str | None = None


@dataclass(frozen=True)
class ProgramReport:
    """A program's dry run. It ends at the first refusal, since what follows an op needs its results.

    Bytes are of one chip: `weight_bytes` what loading the program's weights leaves allocated for weights, `peak_bytes`
    the most DRAM after any op with all that is resident, `after_bytes` what stays when the program is done;
    `l1_peak_bytes` counts tensors in L1, all that the allocator tells of it, over all cores. `kernels_built` were not
    in the cache and `kernels_found` were, of those that no program before has asked for.
    """

    geometry: str
    role: str
    ops: int = 0
    accepted: int = 0
    rejected: int = 0
    weight_bytes: int = 0
    peak_bytes: int = 0
    after_bytes: int = 0
    l1_peak_bytes: int = 0
    kernels_built: int = 0
    kernels_found: int = 0
    seconds: float = 0.0
    refusal: Refusal | None = None


def text(reports: list[ProgramReport]) -> str:
    """A table with a line for each program, and below it what was refused and why."""
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


def refusal_text(report: ProgramReport, refusal: Refusal) -> str:
    """One line: the program, the instruction and where it came from, and the reason."""
    if refusal.instruction is None:
        return f"refused: {report.role}: {refusal.reason}"
    return f"refused: {report.role}, instruction {refusal.instruction}, {refusal.op} ({refusal.loc}): {refusal.reason}"
