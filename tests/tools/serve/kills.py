"""Clients and a server that is killed again and again: `python -m tests.tools.serve.kills BUNDLE`.

Each client queues its jobs and waits for their videos, while the server gets SIGKILL at random moments, in its start
too, and is started again on the same folder. A client whose request broke off looks among the jobs whether it was
accepted, by the seed, which each job has for itself. In the end each job is there once and completed, its video has
the bytes that `mochi-run --sweep` makes of the same arguments, and the folder has these videos and nothing else.
"""

import argparse
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools.serve.servers import ENVIRONMENT

PROMPTS = ("a red circle moves left across a dark background", "a green square spins on a light background")
PATIENCE = 7200.0  # seconds for the whole campaign
_POLL = 0.25


@dataclass(frozen=True)
class Campaign:
    """What is asked for: `clients` share `jobs`; the server is killed `kills` times, up to `most` s after its start."""

    bundle: Path
    jobs: int = 100
    clients: int = 20
    kills: int = 20
    steps: int = 2
    most: float = 16.0
    seed: int = 0


@dataclass
class Killed:
    """A server that is always started again. `port` stays the same, so that clients find it."""

    campaign: Campaign
    state: Path
    port: int
    starts: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Start, wait for a random time, kill, and start again; the last server lives until `done`."""
        chance = random.Random(self.campaign.seed)
        with (self.state.parent / "server.log").open("ab") as log:
            for kill in range(self.campaign.kills + 1):
                self.process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=log, env=ENVIRONMENT)
                self.starts += 1
                is_last = kill == self.campaign.kills
                self.done.wait(None if is_last else chance.uniform(0, self.campaign.most))
                if self.process.poll() is not None:
                    raise AssertionError(f"the server ended by itself with {self.process.returncode}")
                self.process.send_signal(signal.SIGTERM if is_last else signal.SIGKILL)
                self.process.wait()

    def _command(self) -> list[str]:
        words = [str(self.campaign.bundle), "--name", "demo", "--state", str(self.state), "--port", str(self.port)]
        return [sys.executable, "-m", "mochi_aot.tools.commands.serve", *words, "--max-queue", "1000"]


class Client:
    """One client: it sends its jobs, and fetches their videos, whatever becomes of the server meanwhile."""

    def __init__(self, port: int, seeds: list[int], steps: int) -> None:
        self._port, self._seeds, self._steps = port, seeds, steps
        self.videos: dict[int, bytes] = {}
        self.broken = 0  # requests to queue a job that ended without an answer
        self.problem: str | None = None

    def run(self, end: float) -> None:
        try:
            names = {seed: self._queued(seed, end) for seed in self._seeds}
            for seed, name in names.items():
                self.videos[seed] = self._video(name, end)
        except AssertionError as error:
            self.problem = str(error)

    def _queued(self, seed: int, end: float) -> str:
        body = {"prompt": PROMPTS[seed % len(PROMPTS)], "num_inference_steps": self._steps, "seed": seed}
        is_unknown = False
        while time.monotonic() < end:
            if is_unknown:
                found = self._ask("GET", "/v1/videos/jobs")
                if found is None or found[0] != 200:
                    time.sleep(_POLL)
                    continue
                same = [job["id"] for job in json.loads(found[1]) if job["request_parameters"]["seed"] == seed]
                if same:
                    return str(same[0])
            answer = self._ask("POST", "/v1/videos/generations", body)
            if answer is not None and answer[0] == 202:
                return str(json.loads(answer[1])["id"])
            is_unknown = is_unknown or answer is None
            self.broken += answer is None
            assert answer is None or answer[0] == 503, answer
            time.sleep(_POLL)
        raise AssertionError(f"no place for seed {seed}")

    def _video(self, name: str, end: float) -> bytes:
        while time.monotonic() < end:
            answer = self._ask("GET", f"/v1/videos/generations/{name}")
            if answer is not None:
                job = json.loads(answer[1])
                assert answer[0] == 200, f"{name} is lost: {job}"
                assert job["status"] in ("queued", "in_progress", "completed"), job
                video = self._ask("GET", f"/v1/videos/{name}/content") if job["status"] == "completed" else None
                if video is not None:
                    assert video[0] == 200, f"{name} is completed, and has no video: {video}"
                    return video[1]
            time.sleep(_POLL)
        raise AssertionError(f"{name} was not made in time")

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes] | None:
        """Return status and body, or None where the connection broke, or was refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def run(campaign: Campaign, folder: Path) -> dict[str, Any]:
    """Return what happened. Raise AssertionError for a job that is lost, doubled, failed, or has other bytes."""
    started = time.monotonic()
    expected = _by_mochi_run(campaign, folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Killed(campaign, folder / "state", port)
    clients = [
        Client(port, list(range(index, campaign.jobs, campaign.clients)), campaign.steps)
        for index in range(campaign.clients)
    ]
    keeper = threading.Thread(target=server.run)
    threads = [threading.Thread(target=client.run, args=(started + PATIENCE,)) for client in clients]
    for thread in (keeper, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    server.done.set()
    keeper.join()
    problems = [client.problem for client in clients if client.problem]
    assert not problems, problems
    made = {seed: video for client in clients for seed, video in client.videos.items()}
    assert made == expected, [seed for seed in expected if made.get(seed) != expected[seed]]
    return {
        "starts": server.starts,
        "broken requests": sum(client.broken for client in clients),
        "seconds": round(time.monotonic() - started),
        **_left(server.state, campaign.jobs),
    }


def _left(state: Path, jobs: int) -> dict[str, Any]:
    """Look at the folder of a server that has ended."""
    from mochi_aot.tools.serve.keys import Caller
    from mochi_aot.tools.serve.store import JobStore

    log = (state.parent / "server.log").read_text(errors="replace")
    assert "Traceback" not in log, log[-4000:]
    store = JobStore(state, 1)
    found = store.list(Caller("anybody"), 10 * jobs)
    store.close()
    assert Counter(job.arguments["seed"] for job in found) == Counter(range(jobs)), "lost or doubled"
    assert {job.status for job in found} == {"completed"}
    files = {path.name for path in (state / "videos").iterdir()}
    assert files == {f"{job.id}{suffix}" for job in found for suffix in (".mp4", ".json")}, files
    return {"jobs": len(found), "jobs that ran again": sum(job.tries > 1 for job in found)}


def _by_mochi_run(campaign: Campaign, folder: Path) -> dict[int, bytes]:
    """Return the videos that the command line makes, by seed."""
    lines = [
        {"prompt": PROMPTS[seed % len(PROMPTS)], "steps": campaign.steps, "seed": seed, "output": f"{seed}.mp4"}
        for seed in range(campaign.jobs)
    ]
    sweep = folder / "sweep.jsonl"
    sweep.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    command = [sys.executable, "-m", "mochi_aot.tools.commands.run", str(campaign.bundle.resolve())]
    command += ["--sweep", str(sweep)]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {seed: (folder / f"{seed}.mp4").read_bytes() for seed in range(campaign.jobs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    for name in ("jobs", "clients", "kills", "steps", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Campaign, name))
    parser.add_argument("--most", type=float, default=Campaign.most)
    with tempfile.TemporaryDirectory() as folder:
        print(run(Campaign(**vars(parser.parse_args())), Path(folder)))


if __name__ == "__main__":
    main()
