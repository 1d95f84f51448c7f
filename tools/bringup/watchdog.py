"""Runs a step in a process of its own and ends it when it gets no further, saying what it was doing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.runtime.cache import temporary_folder
from mochi_aot.tools.bringup.progress import ProgressFile

_POLL = 0.1  # seconds
_GRACE = 5.0  # seconds that a process has to end after SIGTERM
_LAST = 4000  # characters of what a step wrote that go into the report


@dataclass(frozen=True)
class StepResult:
    """How a step ended: `state` is "passed", "failed" or "hung", and `in_flight` what it was doing if it did not pass.

    `numbers` are the step's own; `output` is the end of what it, and ttnn, wrote.
    """

    name: str
    state: str
    seconds: float
    numbers: dict[str, Any]
    problem: str | None = None
    in_flight: str | None = None
    output: str | None = None


def run_step(name: str, command: Sequence[str], stall: float, limit: float) -> StepResult:
    """Run `command` with two more arguments: the file of its progress, and the one for its numbers, as JSON.

    It is killed after `stall` seconds without progress, or `limit` seconds in all.
    """
    with temporary_folder("bringup") as folder:
        progress, numbers, log = (folder / part for part in ("progress", "numbers.json", "log"))
        started = time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, str(progress), str(numbers)], stdout=stream, stderr=stream, start_new_session=True
            )
            hung = _wait(process, ProgressFile(progress), stall, limit)
        result = json.loads(numbers.read_text()) if numbers.exists() else {}
        problem = hung or result.pop("problem", None) or _ended(process.returncode, finished=numbers.exists())
        if problem is None:
            return StepResult(name, "passed", round(time.monotonic() - started, 1), result)
        doing, said = ProgressFile(progress).read(), log.read_text(errors="replace")[-_LAST:]
        state = "hung" if hung else "failed"
        return StepResult(name, state, round(time.monotonic() - started, 1), result, problem, doing or None, said)


def step_command(name: str, bundle: Path, device: str) -> list[str]:
    """Return the command of a step of `steps.STEPS`."""
    return [sys.executable, "-m", "mochi_aot.tools.bringup.child", name, str(bundle), device]


def _wait(process: "subprocess.Popen[bytes]", progress: ProgressFile, stall: float, limit: float) -> str | None:
    """Wait for the end of a process, or make it. Return why it was ended, if it was."""
    started = changed = time.monotonic()
    seen = ""
    try:
        while process.poll() is None:
            time.sleep(_POLL)
            now, doing = time.monotonic(), progress.read()
            if doing != seen:
                seen, changed = doing, now
            if now - changed > stall:
                return f"no progress for {stall:g} s"
            if now - started > limit:
                return f"not done after {limit:g} s"
        return None
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process and all that it has started."""
    for number, wait in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue


def _ended(code: int, finished: bool) -> str | None:
    """Return what an exit code says. A step whose numbers are written has done its work, however its process ends."""
    if finished:
        return None
    return f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
