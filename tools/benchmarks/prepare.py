"""The checkpoint and the bundle that a start is measured with, made by the command lines."""

import sys
from collections.abc import Callable
from pathlib import Path

from mochi_aot.tools.benchmarks.variants import output_of


def prepare(
    folder: Path, preset: str, target: str, mesh: str, geometry: str, report: Callable[[str], None]
) -> tuple[Path, Path]:
    """Make a checkpoint and its bundle in `folder`, both bfloat16, unless they are there; return their paths.

    Each is made in a process of its own: ttnn knows one mesh a process. Raise MochiError if one cannot be made.
    """
    checkpoint = folder / f"{preset}.checkpoint"
    bundle = folder / (f"{preset}.bundle" if target == "torch" else f"{preset}.{target}.bundle")
    if not checkpoint.exists():
        report("writing a checkpoint")
        _run_tool("checkpoint", str(checkpoint), "--preset", preset, "--dtype", "bfloat16")
    if not bundle.exists():
        report("compiling it")
        options = ["--mesh", mesh, "--target", target, "--geometry", geometry]
        _run_tool("compile", "--checkpoint", str(checkpoint), *options, "-o", str(bundle))
    return checkpoint, bundle


def _run_tool(name: str, *arguments: str) -> None:
    output_of([sys.executable, "-m", f"mochi_aot.tools.commands.{name}", *arguments], f"mochi-{name}")
