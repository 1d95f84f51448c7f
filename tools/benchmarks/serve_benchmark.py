"""`mochi-bench serve`: videos over HTTP against the same videos by the Python API, and the first one after a start."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.tools.benchmarks.prepare import prepare
from mochi_aot.tools.benchmarks.report import machine_line, ratios, spread, spread_table
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.timing import Comparison, compare, seconds_of
from mochi_aot.tools.benchmarks.variants import in_turns

STEPS = 16  # of each video
_PROMPT = "a red fox in the snow"
_PAUSE = 0.005  # seconds between two tries to reach a server
_ANSWER = 600.0  # seconds that an answer may take: that of a job's events comes with its end


class ServedError(MochiError):
    """A server that was measured has ended, or has not made a video."""

    exit_code = ExitCode.FAULT


@dataclass(frozen=True)
class ServeResult:
    """Seconds of `jobs` videos, served (ours) and by the API (theirs), and of the first ones after a start."""

    size: str
    jobs: int
    times: Comparison
    first_served: list[float]
    first_by_command: list[float]


class Client:
    """Asks a server on this machine for videos, over one connection each."""

    def __init__(self, port: int) -> None:
        self._port = port

    def queue(self, seed: int) -> str:
        """Return the id of a new job. Raise OSError where no server listens, ServedError where it refuses."""
        body = {"prompt": _PROMPT, "num_inference_steps": STEPS, "seed": seed}
        status, text = self._ask("POST", "/v1/videos/generations", json.dumps(body))
        while status == 503:  # a server that has only just begun
            time.sleep(_PAUSE)
            status, text = self._ask("POST", "/v1/videos/generations", json.dumps(body))
        if status != 202:
            raise ServedError(f"the server refused a video: {status} {text[:200]!r}")
        return str(json.loads(text)["id"])

    def video(self, name: str) -> bytes:
        """Wait for the end of a job by its events, and return its video. Raise ServedError if there is none."""
        self._ask("GET", f"/v1/videos/{name}/events")
        status, content = self._ask("GET", f"/v1/videos/{name}/content")
        if status != 200:
            raise ServedError(f"the server has no video of {name}: {status} {content[:200]!r}")
        return content

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()


def measure_serve(folder: Path, size: str, jobs: int, repetitions: int, report: Callable[[str], None]) -> ServeResult:
    """Make a checkpoint and its bundle in `folder`, and time both comparisons in turns. Raise MochiError."""
    _, bundle = prepare(folder, SIZES[size].preset, "torch", "1x1", SIZES[size].start, report)
    report("timing videos")
    times = _videos(bundle, folder, jobs, repetitions)
    report("timing first videos")
    first = in_turns(("served", "mochi-run"), repetitions, lambda name: _first(name, bundle, folder), report)
    served, by_command = ([run["seconds"] for run in first[name]] for name in ("served", "mochi-run"))
    return ServeResult(size, jobs, times, served, by_command)


def serve_numbers(result: ServeResult) -> dict[str, Any]:
    """Return what `--json` writes. Seconds, and ratios repetition by repetition."""
    return {
        "size": result.size,
        "preset": SIZES[result.size].preset,
        "geometry": SIZES[result.size].start,
        "steps": STEPS,
        "jobs": result.jobs,
        "seconds": {
            "videos, served": spread(result.times.ours),
            "videos, in one process": spread(result.times.theirs),
            "first video, served": spread(result.first_served),
            "first video, mochi-run": spread(result.first_by_command),
        },
        "ratios": {
            "videos: served over one process": spread(ratios(result.times.ours, result.times.theirs)),
            "first video: served over mochi-run": spread(ratios(result.first_served, result.first_by_command)),
        },
    }


def serve_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    count = len(numbers["ratios"]["videos: served over one process"]["all"])
    return "\n".join(
        [
            machine_line(numbers),
            f"size {numbers['size']} (preset {numbers['preset']}), {numbers['geometry']}, {numbers['steps']} steps",
            "",
            spread_table(f"seconds of {numbers['jobs']} videos, and of one from a start", numbers["seconds"]),
            "",
            spread_table("ratio", numbers["ratios"]),
            "",
            f"{count} repetitions, ratios within each; the same bytes from both",
        ]
    )


def _videos(bundle: Path, folder: Path, jobs: int, repetitions: int) -> Comparison:
    """Time `jobs` videos by a server that is warm, and by a pipeline in this process that is warm too."""
    import mochi_aot

    made: dict[str, list[bytes]] = {}
    with _server(bundle, folder / "state") as client, mochi_aot.load(bundle) as pipe:

        def served() -> None:
            names = [client.queue(seed) for seed in range(jobs)]
            made["served"] = [client.video(name) for name in names]

        def in_one_process() -> None:
            paths = [folder / f"{seed}.mp4" for seed in range(jobs)]
            for seed, path in enumerate(paths):
                pipe(_PROMPT, num_inference_steps=STEPS, seed=seed).save(path, force=True)
            made["in one process"] = [path.read_bytes() for path in paths]

        times = compare(served, in_one_process, repetitions)
    if made["served"] != made["in one process"]:
        raise ServedError("the served videos have other bytes than those of one process: times mean nothing")
    return times


def _first(name: str, bundle: Path, folder: Path) -> dict[str, Any]:
    return {"seconds": (_first_served if name == "served" else _first_by_command)(bundle, folder)}


def _first_served(bundle: Path, folder: Path) -> float:
    """Return the seconds from a server's start to its first video; the client asks for it as soon as it can."""
    begun = time.perf_counter()
    with _server(bundle, folder / "state") as client:
        client.video(client.queue(0))
        return time.perf_counter() - begun


def _first_by_command(bundle: Path, folder: Path) -> float:
    """Return the seconds that `mochi-run` takes for the same video."""
    words = ["--prompt", _PROMPT, "--steps", str(STEPS), "--seed", "0", "-o", str(folder / "first.mp4"), "--force"]
    command = [sys.executable, "-m", "mochi_aot.tools.commands.run", str(bundle), "--quiet", *words]
    return seconds_of(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


@contextmanager
def _server(bundle: Path, state: Path) -> Iterator[Client]:
    """Start a server with an empty folder, yield its client once it takes requests, and end it."""
    shutil.rmtree(state, ignore_errors=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [str(bundle), "--state", str(state), "--port", str(port), "--max-queue", "1000", "--quiet"]
    command = [sys.executable, "-m", "mochi_aot.tools.commands.serve", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = Client(port)
            _until_it_listens(process, port)
            yield client
            process.send_signal(signal.SIGTERM)
            process.wait()
        finally:
            process.kill()


def _until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    while True:
        if process.poll() is not None:
            raise ServedError(f"the server ended with exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(_PAUSE)
