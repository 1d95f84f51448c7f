"""The variants that a benchmark compares: each runs alone in a fresh process, and all of them in turns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.runtime.ledger import Ledger
from mochi_aot.runtime.pages import bytes_from_disk

Runs = dict[str, list[dict[str, Any]]]  # by variant; what it printed in each repetition


def in_turns(
    variants: Sequence[str],
    repetitions: int,
    run: Callable[[str], dict[str, Any]],
    report: Callable[[str], None],
) -> Runs:
    """Run all variants, `repetitions` times; the one that begins changes every time."""
    runs: Runs = {name: [] for name in variants}
    for index in range(repetitions):
        first = index % len(variants)
        for name in (*variants[first:], *variants[:first]):
            runs[name].append(run(name))
        report(f"  {index + 1} of {repetitions}")
    return runs


def run_variant(module: str, variant: str, folders: Sequence[Path], packages: Path | None = None) -> dict[str, Any]:
    """Run a variant of a module here that ends in `print_outcome`, in a fresh process; return what it printed.

    `packages` is a folder that stands for site-packages. Raise MochiError with the last line that it said if it fails.
    """
    command = [sys.executable, *(["-S"] if packages else []), "-m", f"{__package__}.{module}", variant]
    environment = {**os.environ, "PYTHONPATH": str(packages)} if packages else None
    printed = output_of([*command, *map(str, folders)], variant, environment)
    numbers: dict[str, Any] = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    return numbers


def output_of(command: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command printed. Raise MochiError with the last line that it said if `what` failed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise MochiError(f"{what} failed: {why}")
    return done.stdout


def print_outcome(variants: Sequence[Callable[..., dict[str, Any]]], arguments: Sequence[str]) -> None:
    """Run the variant that the first argument names, on the folders that the others name, and print a JSON object.

    `seconds` are since the process started, and `parts` those of the ledger's spans; `from_disk` are the bytes that the
    process had from block devices; `torch` is whether torch was imported; the variant adds to these what it returns.
    """
    ledger = Ledger()
    ledger.add("imports", 0)
    variant, *folders = arguments
    outcome = {function.__name__: function for function in variants}[variant](*map(Path, folders), ledger)
    seconds = ledger.now()
    numbers = {
        "seconds": seconds,
        "parts": ledger.numbers()["seconds"],
        "from_disk": bytes_from_disk("self"),
        "torch": "torch" in sys.modules,
        **outcome,
    }
    sys.stdout.write(json.dumps(numbers) + "\n")
