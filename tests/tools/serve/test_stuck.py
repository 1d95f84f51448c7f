"""A device that hangs in a step, or fails again and again: the probe says so, the process ends, and jobs are kept."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mochi_aot.runtime.errors import DeviceMemoryError, VideoError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.store import JobStore, StoredJob
from mochi_aot.tools.serve.worker import Worker, _is_of_the_host
from tests.runtime import toy_bundle
from tests.tools.serve.servers import PATIENCE, Server

# A pipeline of a device that does one step of each video and then nothing, as a thread that waits in a driver.
STUCK = """
import sys, threading
from mochi_aot import BackendError
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


@contextmanager
def served(script: str, folder: Path) -> Iterator[Server]:
    """A server whose pipeline is the script's; its stderr is JSON."""
    toy_bundle.write_bundle(folder / "toy.bundle")
    words = [str(folder / "toy.bundle"), "--state", str(folder / "state"), "--port", "0", "--step-limit", "1"]
    command = [sys.executable, "-c", script, *words, "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip(), process, folder / "state")
        finally:
            process.kill()


def ended(server: Server, says: str) -> list[StoredJob]:
    """Return the jobs that a server leaves, once its liveness has failed and it has ended, saying why."""
    end = time.monotonic() + PATIENCE
    while (alive := server.ask("GET", "/tt-liveness")).status == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert alive.status == 500 and says in alive.json["detail"]
    _, stderr = server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 5
    last = json.loads(stderr.splitlines()[-1])
    assert (last["kind"], last["exit_code"]) == ("device", 5) and "start the server again" in last["message"]
    store = JobStore(server.state, 1)
    jobs = store.list(Caller("anybody"), 9, newest_first=False)
    store.close()
    return jobs


def test_a_stuck_device(tmp_path: Path) -> None:
    with served(STUCK, tmp_path) as server:
        name = server.ask("POST", "/v1/videos", {"prompt": "a red fox"}).json["id"]
        (job,) = ended(server, "toy: nothing has happened for")
    assert (job.id, job.status, job.tries) == (name, "queued", 1)


def test_a_device_that_fails_again_and_again(tmp_path: Path) -> None:
    """Three jobs show that it is not the job; the others are kept for a device that works."""
    with served(STUCK.replace("threading.Event().wait()", "raise BackendError('no answer')"), tmp_path) as server:
        for _ in range(5):
            assert server.ask("POST", "/v1/videos", {"prompt": "a red fox"}).status == 200
        jobs = ended(server, "toy: the device failed in 3 jobs")
    assert [(job.status, job.tries) for job in jobs] == [("failed", 1)] * 3 + [("queued", 0)] * 2
    assert jobs[0].error == {"code": "BackendError", "message": "no answer"}


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


def test_a_job_too_large_for_the_device_is_no_failure_of_the_host() -> None:
    """The next one may be smaller; a full disk meets all of them."""
    assert not _is_of_the_host(DeviceMemoryError("no room"))
    assert _is_of_the_host(VideoError("no space")) and _is_of_the_host(OSError(28, "No space left on device"))
