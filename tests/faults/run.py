"""Let system calls fail in every command: `python -m tests.faults.run WORK --number 500`.

A library that is loaded in front of the C library (fault.c, by gcc) makes the Nth call of a kind on the command's files
fail, and all later ones, as a full disk, a disk that cannot be read, a network file system that has gone, or one
without locks does. A command must then end with exit code 3, 4 or 7 and one line that names a path, or do what it
would have done; its output is absent or whole; and run again without the fault it succeeds.
"""

import argparse
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SECONDS = 600  # that a command has
# Kinds of calls, and what they fail with: EIO of a disk, ESTALE of NFS, ENOSPC and EDQUOT of full ones.
FAULTS = {
    "open": (errno.EIO, errno.ESTALE, errno.EACCES),
    "create": (errno.ENOSPC, errno.EROFS, errno.ESTALE),
    "read": (errno.EIO, errno.ESTALE),
    "write": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "fsync": (errno.EIO, errno.ESTALE, errno.ENOSPC),
    "truncate": (errno.ENOSPC, errno.EIO),
    "flock": (errno.ENOLCK, errno.ENOSYS, errno.EIO),
    "stat": (errno.ESTALE, errno.EIO),
    "rename": (errno.EIO, errno.ESTALE, errno.ENOSPC),
    "link": (errno.EPERM, errno.EMLINK, errno.EIO),
    "mkdir": (errno.ENOSPC, errno.ESTALE),
    "unlink": (errno.EIO, errno.ESTALE),
    "mmap": (errno.ENODEV, errno.ENOMEM),
}
# Each runs in a folder with `bundle`, `pack.tar`, `store`, `key` and `checkpoint`; what it makes is named `out`.
COMMANDS = {
    "inspect": "inspect bundle --json",
    "html": "inspect bundle --html out",
    "sbom": "inspect bundle --sbom out",
    "verify": "verify bundle",
    "run": "run bundle --prompt fox --steps 1 --seed 1 --no-decode --save-latents out",
    "sign": "bundle sign bundle --key key",
    "pack": "bundle pack bundle -o out",
    "unpack": "bundle unpack pack.tar -o out",
    "push": "bundle push bundle file://FOLDER/out",
    "pull": "bundle pull file://FOLDER/store -o out",
    "checkpoint": "checkpoint out --preset tiny",
    "compile": "compile --checkpoint checkpoint --mesh 1x1 --target torch --geometry 16x16x7 -o out --resume",
}
MAKE_NOTHING = ("inspect", "verify", "sign")


@dataclass(frozen=True)
class Fault:
    """The `number`th call of a kind fails, and all later ones."""

    call: str
    code: int
    number: int


@cache
def library() -> Path:
    """Build fault.c. Raise CalledProcessError or FileNotFoundError where there is no compiler."""
    place = Path(tempfile.mkdtemp(prefix="mochi-fault-")) / "fault.so"
    source = Path(__file__).with_name("fault.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", place, source, "-ldl"], check=True)
    return place


def prepare(folder: Path, checkpoint: bool) -> None:
    """Write what COMMANDS name into an empty folder."""
    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
    from mochi_aot.tools.bundle.archive import pack
    from tests.runtime import toy_bundle

    toy_bundle.write_bundle(folder / "bundle")
    shutil.copytree(folder / "bundle", folder / "store")
    pack(Bundle.open(folder / "bundle"), folder / "pack.tar", False, lambda _: None)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    if checkpoint:
        write_checkpoint(folder / "checkpoint", TINY, "diffusers")


def start(folder: Path, name: str, fault: Fault | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, with a fault."""
    words = COMMANDS[name].replace("FOLDER", str(folder)).split()
    environment = {**os.environ, "MOCHI_CACHE": str(folder / "cache")}
    if fault is not None:
        environment |= {"LD_PRELOAD": str(library()), "FAULT_CALL": fault.call, "FAULT_ERRNO": str(fault.code)}
        environment |= {"FAULT_NTH": str(fault.number), "FAULT_PREFIX": f"{folder}/", "FAULT_LOG": str(folder / "hit")}
    command = [sys.executable, "-m", f"mochi_aot.tools.commands.{words[0]}", *words[1:]]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def problems(folder: Path, name: str, fault: Fault) -> tuple["subprocess.CompletedProcess[str]", bool, list[str]]:
    """Run a command with a fault. Return how it ended, whether the fault happened, and what is wrong with its end."""
    _clear(folder)
    done = start(folder, name, fault)
    hit = (folder / "hit").exists()
    found = _wrong_end(done)
    if done.returncode == 0 and name not in MAKE_NOTHING and not (folder / "out").exists():
        found.append("no output")
    if done.returncode != 0:
        # A store without its manifest is no bundle yet.
        published = folder / "out/manifest.msgpack" if name == "push" else folder / "out"
        if published.exists() and not _may_be_there(done.stderr):
            found.append("an output")
        again = start(folder, name)
        if again.returncode != 0 and not published.exists():
            found.append(f"again: exit code {again.returncode}: {again.stderr[-300:]!a}")
    return done, hit, found


def _wrong_end(done: "subprocess.CompletedProcess[str]") -> list[str]:
    if done.returncode == 0:
        return []
    found = []
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode not in (3, 4, 7) or len(errors) != 1 or "Traceback" in done.stderr:
        found.append(f"exit code {done.returncode}: {done.stderr[-1500:]!a}")
    elif not any(word in errors[0] for word in ("/", "bundle", "out", "key", "pack.tar", "store", "checkpoint")):
        found.append(f"no path: {errors[0]!a}")
    return found


def _may_be_there(stderr: str) -> bool:
    """Return whether the command says that its output is whole and only what comes after it failed."""
    return "is whole" in stderr


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in ("bundle", "store", "pack.tar", "key", "key.pub", "checkpoint", "cache"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def campaign(folder: Path, names: list[str], number: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Let calls fail in `number` ways. Return how often commands ended how, and what was wrong."""
    chance, ends, wrong = random.Random(seed), Counter[str](), []
    for _ in range(number):
        name, call = chance.choice(names), chance.choice(sorted(FAULTS))
        fault = Fault(call, chance.choice(FAULTS[call]), chance.choice((1, 1, 1, 2, 2, 3, 4, 6, 9, 14, 20, 40)))
        done, hit, found = problems(folder, name, fault)
        ends[f"{call}: " + (f"exit code {done.returncode}" if hit else "not called so often")] += 1
        for problem in found:
            wrong.append(f"{name}: {fault.call} {fault.number}, {errno.errorcode[fault.code]}: {problem}")
            print(wrong[-1], flush=True)
    return ends, wrong


def main() -> None:
    """Run what the command line says, and end with code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Let system calls fail in commands.")
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--commands", nargs="*", choices=sorted(COMMANDS), default=sorted(COMMANDS))
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    work = given.work.resolve()
    if not (work / "bundle").exists():
        prepare(work, "compile" in given.commands)
    ends, wrong = campaign(work, given.commands, given.number, given.seed)
    for end, count in sorted(ends.items()):
        print(f"{count:5} {end}")
    print(f"{given.number} faults, {len(wrong)} wrong ends")
    raise SystemExit(len(wrong) > 0)


if __name__ == "__main__":
    main()
