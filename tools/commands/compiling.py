"""What `mochi-compile` shows: progress while it works, and the report at the end."""

from pathlib import Path

from mochi_aot.artifacts.timeline import process_seconds
from mochi_aot.compiler.job import KernelSummary, Progress, Summary
from mochi_aot.tools.commands.console import LOGGER, Console
from mochi_aot.tools.commands.text import human_bytes, human_count, table


class Terminal(Progress):
    """Phases and weights on the console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def phase(self, text: str) -> None:
        self._console.phase(text)

    def weights(self, done: int, total: int) -> None:
        self._console.update(done, total, "bytes")

    def fetched(self, done: int, total: int) -> None:
        self._console.update(done, total, "bytes")

    def note(self, text: str) -> None:
        LOGGER.info("note: %s", text)


def report(summary: Summary, output: Path) -> str:
    """Return the table that ends a compile, and what it took since the start of the process."""
    rows = [
        [
            program.geometry,
            program.role,
            program.plan,
            str(program.instructions),
            str(sum(program.stats.collectives.values())),
            human_count(program.stats.flops, "FLOP"),
            human_bytes(program.stats.weight_bytes),
            human_bytes(program.stats.collective_bytes),
        ]
        for program in summary.programs
    ]
    header = ["geometry", "program", "plan", "instructions", "collectives", "compute", "weights", "sent"]
    return "\n".join(
        [
            table(header, rows),
            "compute, weights and sent are of one run on one device",
            f"weights: {human_bytes(summary.weight_bytes_per_device)} a device, "
            f"{human_bytes(summary.weight_bytes_on_disk)} on disk, "
            f"{human_bytes(summary.weight_bytes_reused)} of it made before",
            f"took {process_seconds():.1f} s, peak memory {human_bytes(summary.peak_rss)}",
            f"bundle {summary.bundle_id[:16]} in {output}",
            checkpoint_line(summary.checkpoint),
            *([kernels_line(summary.kernels)] if summary.kernels else []),
        ]
    )


def checkpoint_line(checkpoint: dict[str, str]) -> str:
    """Return which weights were compiled, as the bundle records it."""
    words = [f"{checkpoint['layout']} layout"]
    if "vae_layout" in checkpoint:
        words.append(f"VAE in {checkpoint['vae_layout']} layout")
    if "variant" in checkpoint:
        words.append(f"variant {checkpoint['variant']}")
    words.append(f"stored as {checkpoint['dtype']}")
    if "repository" in checkpoint:
        words.append(checkpoint["repository"])
    if "revision" in checkpoint:
        words.append(f"revision {checkpoint['revision']}")
    return f"checkpoint: {', '.join(words)}"


def kernels_line(kernels: KernelSummary) -> str:
    """Return whether a bundle's kernels are real ones."""
    if kernels.stand_in:
        return f"kernels: {kernels.count}, by the stand-in compiler: chips will build their own at their first start"
    return f"kernels: {kernels.count}, by the real compiler: chips with the same ttnn find them built"
