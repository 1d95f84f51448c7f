"""The watchdog over small scripts: what passes, fails, dies, and gets no further."""

import os
import sys
import time
from pathlib import Path

import pytest

from mochi_aot.tools.bringup.watchdog import StepResult, run_step

# A step: the files of its progress and of its numbers are its last arguments.
START = """
import json, os, sys, time
from pathlib import Path
from mochi_aot.tools.bringup.progress import ProgressFile
progress, numbers = ProgressFile(Path(sys.argv[1])), Path(sys.argv[2])
progress.say("program denoise, instruction 7, silu (dit.py:50)")
"""
LONG = 30.0  # seconds that nothing here takes


def step(rest: str, stall: float = LONG, limit: float = LONG) -> StepResult:
    return run_step("one", [sys.executable, "-c", START + rest], stall, limit)


def test_a_step_that_passes() -> None:
    result = step("numbers.write_text(json.dumps({'gigabytes': 3}))")
    assert (result.state, result.numbers, result.problem, result.in_flight) == ("passed", {"gigabytes": 3}, None, None)


def test_a_problem_that_the_step_found() -> None:
    result = step("numbers.write_text(json.dumps({'problem': 'no chips', 'seen': 0})); print('said')")
    assert (result.state, result.problem, result.numbers) == ("failed", "no chips", {"seen": 0})
    assert result.output == "said\n"


def test_a_fault_and_a_crash() -> None:
    fault = step("raise KeyError('x')")
    assert (fault.state, fault.problem) == ("failed", "ended with exit code 1")
    assert fault.output is not None and "KeyError: 'x'" in fault.output
    crash = step("os.abort()")
    assert (crash.state, crash.problem) == ("failed", "killed by signal SIGABRT")
    assert crash.in_flight == "program denoise, instruction 7, silu (dit.py:50)"


def test_a_process_that_dies_after_its_work_is_done() -> None:
    """As one that closes the simulator of a LoudBox."""
    assert step("numbers.write_text('{}'); os.abort()").state == "passed"


@pytest.mark.parametrize("handler", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_a_step_that_hangs_is_ended_with_all_that_it_started(handler: str, tmp_path: Path) -> None:
    """Also one that does not hear SIGTERM; the instruction in flight is the one that was begun last."""
    child = tmp_path / "child"
    rest = (
        f"{handler}import subprocess\n"
        f"started = subprocess.Popen(['sleep', '600']); Path({str(child)!r}).write_text(str(started.pid))\n"
        "time.sleep(600)"
    )
    result = step(rest, stall=2.0)
    assert (result.state, result.problem) == ("hung", "no progress for 2 s")
    assert result.in_flight == "program denoise, instruction 7, silu (dit.py:50)"
    assert _gone(int(child.read_text()))


def test_a_step_that_gets_on_for_ever() -> None:
    result = step("\nfor n in range(10**6):\n    progress.say(f'loading {n}'); time.sleep(0.05)", stall=2.0, limit=3.0)
    assert (result.state, result.problem) == ("hung", "not done after 3 s")
    assert result.in_flight is not None and result.in_flight.startswith("loading ")


def _gone(pid: int) -> bool:
    """Whether a process has ended, or ends while others reap it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False
