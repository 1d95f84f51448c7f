"""What `mochi-bench compile` says of its measurements, for programs and for people."""

from typing import Any

from mochi_aot.tools.benchmarks.compile_benchmark import CompileResult
from mochi_aot.tools.benchmarks.report import machine_line, ratios, spread, spread_table
from mochi_aot.tools.commands.text import human_bytes


def compile_numbers(result: CompileResult) -> dict[str, Any]:
    """Return what `--json` writes. Seconds and bytes.

    `ratio` is a compile's time over its copy's; `weights_ratio` leaves out imports, tracing and partitioning, which do
    not grow with the weights.
    """
    seconds = [compiled.seconds for compiled in result.compiles]
    writing = [compiled.writing for compiled in result.compiles]
    return {
        "checkpoint_bytes": result.checkpoint_bytes,
        "bundle_bytes": result.compiles[0].bundle_bytes,
        "peak_anonymous_bytes": max(compiled.peak_anonymous for compiled in result.compiles),
        "compile": spread(seconds),
        "phases": [compiled.phases for compiled in result.compiles],
        "writing": spread(writing),
        "copy": spread(result.copies),
        "conversion_seconds": result.conversion_seconds,
        "ratio": spread(ratios(seconds, result.copies)),
        "weights_ratio": spread(ratios(writing, result.copies)),
    }


def compile_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    rows = {
        "compile": numbers["compile"],
        "of it, writing weights": numbers["writing"],
        "cp and sync": numbers["copy"],
        "compile / cp": numbers["ratio"],
        "writing weights / cp": numbers["weights_ratio"],
    }
    size, conversion = human_bytes(numbers["checkpoint_bytes"]), numbers["conversion_seconds"]
    return "\n".join(
        [
            machine_line(numbers),
            f"size {numbers['size']}, mesh {numbers['mesh']}, target {numbers['target']}, {numbers['weights_dtype']}",
            f"checkpoint {size}, bundle {human_bytes(numbers['bundle_bytes'])}",
            "",
            spread_table(f"seconds of {len(numbers['copy']['all'])}", rows, digits=2),
            "",
            f"converting alone: {conversion:.2f} s on all processors" if conversion else "no conversion",
            f"peak anonymous memory: {human_bytes(numbers['peak_anonymous_bytes'])}",
        ]
    )
