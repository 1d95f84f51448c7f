"""What a dry run finds out about each program."""

from dataclasses import dataclass


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
    refusal: Refusal | None = None
    weight_bytes: int = 0
    peak_bytes: int = 0
    after_bytes: int = 0
    l1_peak_bytes: int = 0
    kernels_built: int = 0
    kernels_found: int = 0
    seconds: float = 0.0


def refusal_text(report: ProgramReport, refusal: Refusal) -> str:
    """Return one line: the program, the instruction and where it came from, and the reason."""
    if refusal.instruction is None:
        return f"refused: {report.role}: {refusal.reason}"
    return f"refused: {report.role}, instruction {refusal.instruction}, {refusal.op} ({refusal.loc}): {refusal.reason}"
