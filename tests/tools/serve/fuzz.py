"""Requests that schemathesis makes of the server's own description: `python -m tests.tools.serve.fuzz --number 10000`.

Half of them are right by it, half are wrong in some way, and of each some have ids of jobs that are there. No answer
may be a 500 or have a traceback, nor may the log; an audit hook in the server's process notes what is opened for
writing, made, moved, removed and started, and all of it must be in the job folder. schemathesis is no dependency of
the tests: pip install schemathesis.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.runtime import toy_bundle
from tests.tools.serve.servers import ENVIRONMENT

# The server, in a process that notes what it does to the file system. Its first argument is the file of the notes.
AUDITED = """
import json, os, sys
notes = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
from mochi_aot.tools.commands.serve import main
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PATHS = {"os.rename": 2, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
         "os.chmod": 1, "sqlite3.connect": 1, "shutil.rmtree": 1}
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & WRITES:
        found = arguments[:1]
    elif event in PATHS:
        found = arguments[:PATHS[event]]
    elif event == "subprocess.Popen":
        found = [one for one in arguments[1][-1:] if not str(one).startswith("-")]  # ffmpeg's output is the last one
    elif event in ("os.system", "os.exec", "os.spawn", "os.posix_spawn"):
        found = arguments[:1]
    else:
        return
    os.write(notes, (json.dumps([event, [str(one) for one in found]]) + "\\n").encode())
sys.addaudithook(note)
main(sys.argv[1:])
"""


@contextmanager
def audited_server(folder: Path) -> Iterator[str]:
    """Yield the address of a server of the toy bundle, whose state, log and notes are in `folder`."""
    toy_bundle.write_bundle(folder / "toy.bundle")
    words = [str(folder / "notes"), str(folder / "toy.bundle"), "--state", str(folder / "state"), "--port", "0"]
    command = [sys.executable, "-c", AUDITED, *words, "--max-queue", "20"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=ENVIRONMENT
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
            assert process.poll() is None, "the server has ended"
        finally:
            process.kill()


def fuzz(url: str, number: int, seed: int) -> Counter[int]:
    """Make `number` requests at least, and return how many had which status. Raise AssertionError for a bad answer."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode

    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    operations = [one for one in operations if not one.path.endswith("/events")]  # those last until a job's end
    statuses, names, chance = Counter[int](), list[str](), random.Random(seed)
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    each = -(-number // (len(operations) * len(modes)))

    def attempt(operation: Any, mode: Any, count: int) -> None:
        @seeded(seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            if "id" in (case.path_parameters or {}) and chance.random() < 0.3:
                if statuses.total() % 20 == 0 or not names:
                    names[:] = _names(url)
                case.path_parameters["id"] = chance.choice(names or ["none"])
            answer = case.call(timeout=60)
            statuses[answer.status_code] += 1
            if statuses.total() % 500 == 0:
                print(f"{statuses.total()} requests so far", flush=True)
            assert answer.status_code < 500 or answer.status_code == 503, (case.as_curl_command(), answer.text[:500])
            assert b"Traceback" not in answer.content, case.as_curl_command()

        with suppress(Unsatisfiable):  # a request without parameters or a body cannot be wrong
            one()

    for operation in operations:
        for mode in modes:
            attempt(operation, mode, each)
    while statuses.total() < number:  # hypothesis stops early where an operation has few different requests
        seed += 1
        attempt(chance.choice([one for one in operations if one.method == "post"]), chance.choice(modes), each)
    return statuses


def problems(folder: Path) -> list[str]:
    """Return what the server did outside of its job folder, and tracebacks of its log."""
    state, found = (folder / "state").resolve(), []
    for line in (folder / "notes").read_text().splitlines():
        event, paths = json.loads(line)
        for path in paths:
            place = (folder / path).resolve()
            if place != Path("/dev/null") and not place.is_relative_to(state):
                found.append(f"{event} {path}")
    log = (folder / "log").read_text(errors="replace")
    return found + ([log[-4000:]] if "Traceback" in log else [])


def _names(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/v1/videos/jobs", timeout=60) as reply:
        return [job["id"] for job in json.load(reply)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with audited_server(folder) as url:
            statuses = fuzz(url, options.number, options.seed)
        found = problems(folder)
    print(f"{statuses.total()} requests in {time.monotonic() - started:.0f} s, by status {dict(statuses)}")
    print("\n".join(found[:50]) or "nothing outside of the job folder, no traceback")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
