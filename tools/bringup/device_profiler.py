"""What ttnn's device profiler says of a run: cycles counted on the chips, where ttnn was built with it.

The wheels of ttnn 0.81.1 were not: it then refuses to open anything with these variables set.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

# Read by ttnn when it is imported.
VARIABLES = ("TT_METAL_DEVICE_PROFILER", "TT_METAL_PROFILER_MID_RUN_DUMP", "TT_METAL_PROFILER_CPP_POST_PROCESS")
NOT_BUILT_IN = "requires a Tracy-enabled build"  # of what ttnn says then


class _Duration(Protocol):
    @property
    def duration(self) -> int: ...


class _Analysed(Protocol):
    """One op on one chip, as ttnn's ProgramAnalysisData has it."""

    @property
    def program_analyses_results(self) -> Mapping[str, _Duration]: ...


def chip_seconds(read: Mapping[int, Iterable[_Analysed]]) -> dict[str, Any]:
    """Return for each chip the ops that were read, and the sum of each of their durations, given in ns, in seconds."""
    found: dict[str, Any] = {}
    for chip, ops in sorted(read.items()):
        sums: dict[str, int] = {}
        count = 0
        for op in ops:
            count += 1
            for name, result in op.program_analyses_results.items():
                sums[name] = sums.get(name, 0) + result.duration
        found[str(chip)] = {"ops": count, "seconds": {name: total / 1e9 for name, total in sums.items()}}
    return found
