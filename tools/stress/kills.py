"""Stops commands at random moments: python -m mochi_aot.tools.stress.kills WORK TORCH TTNN CHECKPOINT [--kills N].

A stopped command must end with the exit code of its signal, without a traceback, children or anything left behind. What
SIGKILL leaves must be gone after the next run of the same command, which must succeed.
"""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
_END_SECONDS = 600.0  # that a stopped command has
_CHILD_SECONDS = 10.0  # that its children have
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Command:
    """A command line that makes `output` in the folder that it runs in, if it makes anything."""

    name: str
    words: tuple[str, ...]
    output: tuple[str, ...] = ()

    @property
    def start(self) -> list[str]:
        """Return the words of a process; `mochi-x` is a module's name here."""
        return [sys.executable, "-m", f"mochi_aot.tools.commands.{self.name}", *self.words]


@dataclass(frozen=True)
class Stopped:
    """How a command ended that got a signal `seconds` after its start; `faults` is what is wrong with that."""

    command: Command
    number: signal.Signals
    seconds: float
    code: int
    faults: tuple[str, ...]

    @property
    def text(self) -> str:
        what = f"{self.command.name} {' '.join(self.command.words)}"
        return f"{what}: {self.number.name} after {self.seconds:.2f} s, code {self.code}: {'; '.join(self.faults)}"


def commands(torch: Path, ttnn: Path | None, checkpoint: Path) -> list[Command]:
    """Return what is stopped: all on a torch bundle, and on a mocked mesh what differs there."""
    video = ("--prompt", "a fox", "--steps", "2", "--seed", "1", "-o", "out.mp4")
    size = ("--geometry", "16x16x7", "--mesh", "1x1", "--target", "torch")
    compiling = ("--checkpoint", str(checkpoint), *size, "-o", "out")
    made = ("out.mp4", "out.json")
    found = [
        Command("compile", compiling, ("out",)),
        Command("compile", (*compiling, "--resume"), ("out",)),
        Command("run", (str(torch), *video), made),
        Command("verify", (str(torch),)),
        Command("inspect", (str(torch),)),
    ]
    if ttnn is not None:
        found += [
            Command("run", (str(ttnn), "--device", "mock", *video), made),
            Command("verify", (str(ttnn),)),
            Command("inspect", (str(ttnn),)),
        ]
    return found


def whole(command: Command, folder: Path) -> float:
    """Run a command to its end and return its seconds. Raise AssertionError if it fails, or leaves other files."""
    started = time.monotonic()
    done = subprocess.run(command.start, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert sorted(_left(folder)) == sorted(command.output), (command, _left(folder))
    return seconds


def stop(command: Command, folder: Path, number: signal.Signals, seconds: float) -> Stopped:
    """Send a signal `seconds` after the start of a command in an empty folder, and look at what is left."""
    before = _children()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # children that lose their parent become ours
    child = subprocess.Popen(command.start, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(number)
    try:
        _, stderr = child.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return Stopped(command, number, seconds, 0, (f"still there after {_END_SECONDS:g} s",))
    faults = _faults(command, folder, number, child.returncode, stderr)
    if _stay(before):
        faults.append("children are there")
    return Stopped(command, number, seconds, child.returncode, tuple(faults))


def _faults(command: Command, folder: Path, number: signal.Signals, code: int, stderr: str) -> list[str]:
    faults = []
    left = _left(folder)
    # Before Python has read the command there is no handler, and nothing to clean up: the signal ends the process,
    # SIGINT with a traceback of what Python imports for itself, or as a fatal error of its site module.
    in_site = "Fatal Python error: init_import_site" in stderr
    before_all = in_site or (code == -number and "/mochi_aot/tools/" not in stderr)
    if code not in (0, 128 + number, -number) and not in_site:
        faults.append(f"exit code {code}: {stderr.strip()[-300:]}")
    if ("Traceback" in stderr and not before_all) or "terminate called" in stderr:
        faults.append(f"stderr: {stderr[-2000:]}")
    if number == signal.SIGKILL:
        return faults
    kept = [name for name in left if name in command.output]
    if kept and sorted(kept) != sorted(command.output):
        faults.append(f"a part of the output: {kept}")
    if code == 0 and not kept and command.output:
        faults.append("no output")
    others = [name for name in left if name not in command.output and not _may_stay(command, name)]
    if others:
        faults.append(f"left behind: {others}")
    temporary = Path(os.environ.get("MOCHI_CACHE", "/nowhere"), "temporary")
    if temporary.is_dir() and any(temporary.iterdir()) and code != -number:
        faults.append(f"left in the cache: {os.listdir(temporary)}")
    return faults


def _may_stay(command: Command, name: str) -> bool:
    """Return whether what is finished is kept so: by --resume, and the latents of a video."""
    return ("--resume" in command.words and ".partial-" in name) or name.endswith(".latents.safetensors")


def _left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _children() -> set[int]:
    """Return the processes whose parent is this one."""
    found: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        found |= {int(word) for word in listed.read_text().split()}
    return found


def _stay(before: set[int]) -> bool:
    """Return whether children that were not there before are there after a while; those that have ended are reaped."""
    until = time.monotonic() + _CHILD_SECONDS
    while time.monotonic() < until:
        for pid in _children() - before:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not _children() - before:
            return False
        time.sleep(0.02)
    return True


def campaign(work: Path, found: list[Command], kills: int, seed: int) -> tuple[Counter[str], list[Stopped]]:
    """Stop commands at random moments and return how many of each kind, by signal and code, and those with faults."""
    chance, counts, wrong = random.Random(seed), Counter[str](), list[Stopped]()
    seconds = {}
    for command in found:
        folder = _fresh(work)
        seconds[command] = whole(command, folder)
        click.echo(f"{command.name} {' '.join(command.words)}: {seconds[command]:.1f} s")
    for done in range(1, kills + 1):
        command, number = chance.choice(found), chance.choice(NUMBERS)
        folder = _fresh(work)
        stopped = stop(command, folder, number, chance.uniform(0, seconds[command] * 1.05))
        counts[f"{number.name} {stopped.code}"] += 1
        if not stopped.faults and number == signal.SIGKILL:
            stopped = _again(stopped, folder)
        if stopped.faults:
            wrong.append(stopped)
            click.echo(stopped.text)
        if done % 10 == 0:
            click.echo(f"{done} kills: {len(wrong)} with faults")
    return counts, wrong


def _again(stopped: Stopped, folder: Path) -> Stopped:
    """Run a killed command again, unless it had made all of its output."""
    command = stopped.command
    if all((folder / name).exists() for name in command.output) and command.output:
        return stopped
    more = () if command.name != "run" else ("--skip-existing",)
    try:
        whole(Command(command.name, (*command.words, *more), command.output), folder)
    except AssertionError as error:
        return Stopped(command, stopped.number, stopped.seconds, stopped.code, (f"run again: {error}",))
    return stopped


def _fresh(work: Path) -> Path:
    folder = work / "place"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    return folder


@click.command()
@click.argument("work", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("torch", type=click.Path(path_type=Path, exists=True, resolve_path=True))
@click.argument("ttnn", type=click.Path(path_type=Path, exists=True, resolve_path=True))
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, resolve_path=True))
@click.option("--kills", default=300, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(work: Path, torch: Path, ttnn: Path, checkpoint: Path, kills: int, seed: int) -> None:
    """Stop commands on a TORCH and a TTNN bundle, and compiles of CHECKPOINT, in WORK, which is empty."""
    signal.signal(signal.SIGHUP, lambda *_: None)  # under nohup the commands would ignore it, too
    counts, wrong = campaign(work, commands(torch, ttnn, checkpoint), kills, seed)
    click.echo(f"{kills} kills: {len(wrong)} with faults; {dict(sorted(counts.items()))}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
