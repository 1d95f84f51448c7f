"""A device that hangs in a step: the probe says so, the process ends by itself, and its job is kept."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.store import JobStore
from mochi_aot.tools.serve.worker import Worker
from tests.runtime import toy_bundle
from tests.tools.serve.servers import PATIENCE, Server

# A pipeline of a device that does one step of each video and then nothing, as a thread that waits in a driver.
STUCK = """
import sys, threading
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.pipeline import Usage
from mochi_aot.tools.commands.serve import main
from mochi_aot.tools.serve import worker
class Pipe:
    mock = False
    def __init__(self, path, device): self.bundle = Bundle.open(path)
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def usage(self): return Usage(0, 0, None)
    def __call__(self, prompt, callback_on_step_end=None, **options):
        if callback_on_step_end is not None:
            callback_on_step_end(self, 0, 1.0, {})
            threading.Event().wait()
worker.load = Pipe
main(sys.argv[1:])
"""


def test_a_stuck_device(tmp_path: Path) -> None:
    toy_bundle.write_bundle(tmp_path / "toy.bundle")
    words = [str(tmp_path / "toy.bundle"), "--state", str(tmp_path / "state"), "--port", "0", "--step-limit", "1"]
    command = [sys.executable, "-c", STUCK, *words, "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            server = Server(process.stdout.readline().strip(), process, tmp_path / "state")
            name = server.ask("POST", "/v1/videos", {"prompt": "a red fox"}).json["id"]
            end = time.monotonic() + PATIENCE
            while (alive := server.ask("GET", "/tt-liveness")).status == 200 and time.monotonic() < end:
                time.sleep(0.05)
            assert alive.status == 500 and "toy: nothing has happened for" in alive.json["detail"]
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 5
    last = json.loads(stderr.splitlines()[-1])
    assert (last["kind"], last["exit_code"]) == ("device", 5) and "start the server again" in last["message"]
    store = JobStore(tmp_path / "state", 1)
    (job,) = store.list(Caller("anybody"), 9)
    store.close()
    assert (job.id, job.status, job.tries) == (name, "queued", 1)


@pytest.mark.parametrize(
    ("slowest", "between", "seconds", "stuck"),
    [
        (0.0, False, 599, False),  # loading: nothing is known yet
        (0.0, False, 601, True),
        (2.0, True, 59, False),  # after a step: ten times the slowest, but a minute
        (2.0, True, 61, True),
        (30.0, True, 299, False),
        (30.0, True, 301, True),
        (30.0, False, 301, False),  # decoding may take longer than a step
        (90.0, False, 899, False),  # steps of a slow device
        (90.0, False, 901, True),
        (90.0, True, 899, False),
    ],
)
def test_how_long_is_too_long(
    slowest: float, between: bool, seconds: float, stuck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.__new__(Worker)
    worker.model, worker._device_failures = "toy", 0
    worker._slowest_step, worker._between_steps, worker._beat = slowest, between, 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + seconds)
    assert (worker.trouble(600.0) is not None) == stuck
