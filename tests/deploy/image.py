"""Do what deploy/Dockerfile says, without a daemon: `python -m tests.deploy.image WORK BUNDLE --device mock`.

Needs root, for mounts, and the network, for pip. Each stage has a root folder of its own: the system's folders and the
Python that runs this are mounted into it, read-only, in place of the base image, all else is empty. RUN, COPY and ENV
are taken from the file, word by word; `apt-get` is left out, and what it would install is looked for. Then the server
runs as the image's user in a root that is read-only but for the volumes, without capabilities; the health check's
command is run until it succeeds, a video is made over HTTP, and SIGTERM must end the server with its exit code.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.deploy.dockerfile import DEPLOY, ROOT, instructions

_SYSTEM = [Path(name) for name in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", sys.base_prefix)]
_KEPT = ("PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy")  # variables that pip needs here
# Arguments: the root, what stays writable of it ("" for all), pairs FROM TO to mount, "--", and a command.
_ENTER = """
root=$1 volumes=$2; shift 2
mount --bind "$root" "$root" || exit 1
for volume in $volumes; do mount --bind "$volume" "$volume" || exit 1; done
while [ "$1" != -- ]; do mount --bind "$1" "$root$2" && shift 2 || exit 1; done; shift
mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || exit 1
if [ -n "$volumes" ]; then mount -o remount,ro,bind "$root" || exit 1; fi
exec "$@"
"""
_PORT, _PATIENCE = 8000, 900.0


def enter(
    root: Path, command: list[str], mounts: Mapping[Path, str], variables: Mapping[str, str], volumes: list[Path]
) -> list[str]:
    """Return words that run a command with `root` as its root and some folders mounted there.

    Where there are volumes, all but these is read-only.
    """
    pairs = [word for place, to in mounts.items() for word in (str(place), to)]
    given = [f"{name}={value}" for name, value in variables.items()]
    inner = ["chroot", str(root), "env", "-i", *given, *command]
    return ["unshare", "-m", "sh", "-c", _ENTER, "sh", str(root), " ".join(map(str, volumes)), *pairs, "--", *inner]


def new_root(folder: Path, mounts: Mapping[Path, str]) -> Path:
    """Make the folders that things are mounted at; links of the system's, as /bin -> usr/bin, stay links."""
    for place in ("proc", "dev", "tmp"):
        (folder / place).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    for to in mounts.values():
        (folder / to[1:]).mkdir(parents=True, exist_ok=True)
    return folder


def system() -> dict[Path, str]:
    """Return where the folders of this system go, those that are links resolved."""
    return {path.resolve(): str(path) for path in _SYSTEM if path.exists()}


def context(folder: Path) -> None:
    """Copy what the ignore file lets through, links as links."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)


def build(work: Path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """Do the instructions of both stages; return the last one's root, its variables, and its other settings."""
    stages: list[list[tuple[str, str]]] = []
    for name, words in instructions():
        if name == "FROM":
            stages.append([])
        elif stages:
            stages[-1].append((name, words))
    first, second = (new_root(work / f"root{number}", system()) for number in (1, 2))
    (first / "source").mkdir()
    for root in (first, second):
        (root / "opt").mkdir(exist_ok=True)
    context(first / "source")
    run_stage(first, stages[0], "/source")
    (first / "opt/mochi").rename(second / "opt/mochi")  # COPY --from=build
    variables = run_stage(second, stages[1], "/")
    return second, variables, dict(stages[1])


def run_stage(root: Path, stage: list[tuple[str, str]], folder: str) -> dict[str, str]:
    """Run a stage's commands in its root; return its variables."""
    path = f"{sys.base_prefix}/bin:{os.environ['PATH']}"
    variables = {"PATH": path} | {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    own: dict[str, str] = {}
    for name, words in stage:
        if name == "ARG":
            variables |= dict([words.split("=", 1)])
        elif name == "ENV":
            own |= {key: value.replace("$PATH", path) for key, value in (word.split("=", 1) for word in words.split())}
        elif name == "RUN" and words.startswith("apt-get"):
            print("left out:", words, flush=True)
            assert "libatomic.so.1" in subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
        elif name == "RUN":
            print("RUN", words, flush=True)
            subprocess.run(enter(root, ["sh", "-ec", f"cd {folder}; {words}"], system(), variables, []), check=True)
    return own


def serve(root: Path, variables: dict[str, str], settings: dict[str, str], bundle: Path, options: list[str]) -> None:
    """Run the image's command as its user, ask for its health as the image does, and make a video."""
    mounts = system() | {bundle.resolve(): "/bundle"}
    (root / "bundle").mkdir(exist_ok=True)
    user, group = settings["USER"].split(":")
    rights = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    who = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *rights]
    words = [*yaml.safe_load(settings["ENTRYPOINT"]), *yaml.safe_load(settings["CMD"]), *options]
    place = f"cd {settings['WORKDIR']}"
    command = [*who, "sh", "-c", f'{place}; exec "$@"', "sh", *words]
    volumes = [root / name.strip("/") for name in (*settings["VOLUME"].split(), "tmp")]
    before = everything(root, volumes)
    write = ["sh", "-c", "! touch /opt/mochi/written && ! touch /written && touch /scratch/written"]  # as root
    subprocess.run(enter(root, write, mounts, variables, volumes), check=True, stderr=subprocess.DEVNULL)
    with subprocess.Popen(enter(root, command, mounts, variables, volumes)) as process:
        try:
            check = [*who, *yaml.safe_load(settings["HEALTHCHECK"].partition("CMD ")[2])]
            end = time.monotonic() + _PATIENCE
            while subprocess.run(enter(root, check, mounts, variables, volumes), stderr=subprocess.DEVNULL).returncode:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(1)
            print(f"healthy; a video of {make_video()} bytes", flush=True)
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM, process.returncode
    assert everything(root, volumes) == before
    print("ended by SIGTERM; nothing was written but in", *sorted(f"/{path.name}" for path in volumes))


def everything(root: Path, but: list[Path]) -> set[Path]:
    """Return what is in the root, but for the volumes."""
    return {path for path in root.rglob("*") if not any(path.is_relative_to(folder) for folder in but)}


def make_video() -> int:
    """Return the bytes of a video that was asked for over HTTP."""
    url = f"http://127.0.0.1:{_PORT}/v1/videos"
    body = json.dumps({"prompt": "a red circle moves left", "num_inference_steps": 2, "seed": 7}).encode()
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as reply:
        name = json.load(reply)["id"]
    urllib.request.urlopen(f"{url}/{name}/events").read()  # until its end
    with urllib.request.urlopen(f"{url}/{name}/content") as reply:
        return len(reply.read())


def main() -> None:
    """Build in an empty folder WORK, and serve BUNDLE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("options", nargs="*", help="of mochi-serve, as --device mock")
    arguments = parser.parse_args()
    root, variables, settings = build(arguments.work.resolve())
    serve(root, variables, settings, arguments.bundle, arguments.options)


if __name__ == "__main__":
    main()
