"""A server whose disk is full for a while: `unshare -m python -m tests.tools.serve.full_disk EMPTY_FOLDER`, as root.

The disk is a tmpfs that nobody else sees, filled up by a file. Prints what happened, as JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.runtime import toy_bundle
from tests.tools.serve.servers import PATIENCE, SIZE, Server, served

BODY = {"prompt": "a red fox", "num_inference_steps": 2, **SIZE}


def main(folder: Path) -> None:
    bundle, disk = folder / "toy.bundle", folder / "disk"
    toy_bundle.write_bundle(bundle)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
    (disk / "state").mkdir()
    made, told = [], {}
    with served(bundle, folder / "state", "--state", str(disk / "state")) as server:
        fill(disk)
        refused = server.ask("POST", "/v1/videos", BODY)
        told["refused"] = [refused.status, refused.headers["retry-after"], refused.json["error"]["message"]]
        told["health meanwhile"] = server.ask("GET", "/health").status
        (disk / "ballast").unlink()
        made.append(queued(server))
        server.wait(made[0], "completed")
        made += [queued(server, steps=600) for _ in range(3)]
        server.wait(made[1], "in_progress")
        fill(disk)
        told["exit code"] = server.process.wait(PATIENCE)
    (disk / "ballast").unlink()
    with served(bundle, folder / "state", "--state", str(disk / "state")) as server:
        told["made"] = [server.wait(name, "completed", "failed")["status"] for name in made]
    lines = [json.loads(line) for line in (folder / "state.log").read_text().splitlines()]
    told["errors"] = [line["message"] for line in lines if line["level"] == "error"]
    print(json.dumps(told))


def fill(disk: Path) -> None:
    """Leave no room on the disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass


def queued(server: Server, steps: int = 2) -> str:
    """Queue a video. Return its id."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = server.ask("POST", "/v1/videos", BODY | {"num_inference_steps": steps})
        if answer.status == 200:
            return str(answer.json["id"])
        time.sleep(0.1)
    raise AssertionError(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
