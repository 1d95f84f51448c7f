"""A server in a process of its own, and what the tests ask it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mochi_aot.tools.commands.run import main as run_main

# This tree, whatever folder a process runs in.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
PATIENCE = 120.0  # seconds for anything; nothing here is about time
SIZE = {"height": 16, "width": 16, "num_frames": 7}


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server process; `state` outlives it."""

    url: str
    process: subprocess.Popen
    state: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                return Answer(reply.status, reply.read(), dict(reply.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), dict(error.headers))

    def wait(self, name: str, *status: str) -> dict[str, Any]:
        """Return a job, in the media server's form, once it has one of these statuses."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            job: dict[str, Any] = self.ask("GET", f"/v1/videos/generations/{name}").json
            if job["status"] in status:
                return job
            time.sleep(0.02)
        raise AssertionError(job)


@contextmanager
def served(bundle: Path, state: Path, *options: str) -> Iterator[Server]:
    """A server that is ready, as its address on stdout says."""
    words = [str(bundle), "--state", str(state), "--port", "0", "--log-format", "json", *options]
    command = [sys.executable, "-m", "mochi_aot.tools.commands.serve", *words]
    with (
        (state.parent / f"{state.name}.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT) as process,
    ):
        try:
            assert process.stdout is not None
            server = Server(process.stdout.readline().strip(), process, state)
            assert server.ask("GET", "/health").status == 200
            yield server
        finally:
            process.kill()


def by_mochi_run(bundle: Path, folder: Path, *words: str) -> tuple[bytes, dict[str, Any]]:
    """Return the video and the record that the command line makes."""
    output = folder / "expected.mp4"
    result = CliRunner().invoke(run_main, [str(bundle), *words, "-o", str(output), "--force"])
    assert result.exit_code == 0, result.output
    return output.read_bytes(), json.loads(output.with_suffix(".json").read_text())
