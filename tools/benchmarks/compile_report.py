"""What `mochi-bench compile` says of its measurements, for programs and for people."""

from typing import Any

from mochi_aot.tools.benchmarks.compile_benchmark import CompileResult
from mochi_aot.tools.benchmarks.timing import spread
from mochi_aot.tools.commands.text import human_bytes, table


def compile_numbers(result: CompileResult) -> dict[str, Any]:
    """What `--json` writes. Seconds and bytes. `ratio` is a compile's time over its copy's; `weights_ratio` leaves out
    imports, tracing and partitioning, which do not grow with the weights."""
    pairs = list(zip(result.compiles, result.copies, strict=True))
    writing = [compiled.writing for compiled in result.compiles]
    return {
        "checkpoint_bytes": result.checkpoint_bytes,
        "bundle_bytes": result.compiles[0].bundle_bytes,
        "peak_anonymous_bytes": max(compiled.peak_anonymous for compiled in result.compiles),
        "compile": spread([compiled.seconds for compiled in result.compiles]),
        "phases": [compiled.phases for compiled in result.compiles],
        "writing": spread(writing),
        "copy": spread(result.copies),
        "conversion_seconds": result.conversion_seconds,
        "ratio": spread([compiled.seconds / copy for compiled, copy in pairs]),
        "weights_ratio": spread([seconds / copy for seconds, copy in zip(writing, result.copies, strict=True)]),
    }


def compile_report(numbers: dict[str, Any]) -> str:
    """The same as text."""
    rows = [
        [label, *(f"{numbers[name][key]:.2f}" for key in ("median", "low", "high"))]
        for name, label in (
            ("compile", "compile"),
            ("writing", "of it, writing weights"),
            ("copy", "cp and sync"),
            ("ratio", "compile / cp"),
            ("weights_ratio", "writing weights / cp"),
        )
    ]
    size, conversion = human_bytes(numbers["checkpoint_bytes"]), numbers["conversion_seconds"]
    return "\n".join(
        [
            ", ".join(f"{key} {value}" for key, value in numbers["machine"].items()),
            f"size {numbers['size']}, mesh {numbers['mesh']}, target {numbers['target']}, {numbers['weights_dtype']}",
            f"checkpoint {size}, bundle {human_bytes(numbers['bundle_bytes'])}",
            "",
            table([f"seconds of {len(numbers['copy']['all'])}", "median", "lowest", "highest"], rows),
            "",
            f"converting alone: {conversion:.2f} s on all processors" if conversion else "no conversion",
            f"peak anonymous memory: {human_bytes(numbers['peak_anonymous_bytes'])}",
        ]
    )
