"""Running what a benchmark compares: in turns, each in a process of its own."""

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from mochi_aot.artifacts.errors import MochiError

Runs = dict[str, list[dict[str, Any]]]  # by contender; what it printed in each repetition


def in_turns(
    contenders: Sequence[str],
    repetitions: int,
    run: Callable[[str], dict[str, Any]],
    report: Callable[[str], None],
) -> Runs:
    """All contenders, `repetitions` times; the one that begins changes every time."""
    runs: Runs = {name: [] for name in contenders}
    for index in range(repetitions):
        first = index % len(contenders)
        for name in (*contenders[first:], *contenders[:first]):
            runs[name].append(run(name))
        report(f"  {index + 1} of {repetitions}")
    return runs


def check(done: "subprocess.CompletedProcess[str]", what: str) -> None:
    """MochiError with the last line that it said, if `what` failed."""
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise MochiError(f"{what} failed: {why}")
