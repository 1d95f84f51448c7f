"""Kills packs, unpacks, pushes and pulls at random moments: python -m mochi_aot.tools.stress.moving BUNDLE FOLDER.

Each round starts one of them, on a bundle that takes a second or so to move. Once it has begun it is killed with
SIGKILL or SIGTERM, unless it ends before; then its result must be absent, or whole in every byte.
"""

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click

from mochi_aot.artifacts.reader import Bundle

_LATEST = 2.0  # seconds after its beginning that a command is killed
COMMANDS = ("pack", "unpack", "push", "pull")


class Stress:
    """A folder with a bundle, its archive and a store; `counts` says how rounds ended."""

    def __init__(self, bundle: Path, folder: Path, seed: int) -> None:
        self.bundle, self.folder, self.random = bundle, folder, random.Random(seed)
        self.archive, self.store = folder / "whole.tar", folder / "store/whole"
        self.counts: Counter[str] = Counter()
        self._run(["pack", str(bundle), "-o", str(self.archive)])
        self._run(["push", str(bundle), self.store.as_uri()])

    def round(self) -> None:
        """Kill one command. Raise AssertionError, or BundleError, for what must not be there."""
        kind = self.random.choice(COMMANDS)
        output = self.folder / f"out-{kind}"
        words = {
            "pack": ["pack", str(self.bundle), "-o", str(output)],
            "unpack": ["unpack", str(self.archive), "-o", str(output)],
            "push": ["push", str(self.bundle), output.as_uri()],
            "pull": ["pull", self.store.as_uri(), "-o", str(output)],
        }[kind]
        with self._start(words) as child:
            number = self.random.choice((signal.SIGKILL, signal.SIGTERM))
            assert child.stderr is not None
            child.stderr.readline()  # it says what it begins to do
            try:
                child.wait(self.random.uniform(0.0, _LATEST))
            except subprocess.TimeoutExpired:
                child.send_signal(number)
        ended = child.returncode
        assert ended in (0, -signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM), (kind, ended)
        self.counts[f"{kind} {'ended' if ended == 0 else 'killed'}"] += 1
        self._look(kind, output, ended == 0)

    def _look(self, kind: str, output: Path, ended: bool) -> None:
        """Check that a result is there if its command has ended, and is whole if it is there; remove it."""
        there = (output / "manifest.msgpack").exists() if kind != "pack" else output.exists()
        assert there or not ended, kind
        if there and kind == "pack":
            assert output.read_bytes() == self.archive.read_bytes()
            output.unlink()
        elif there:
            Bundle.open(output).verify()
            subprocess.run(["rm", "-r", str(output)], check=True)

    def _start(self, words: list[str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mochi_aot.tools.commands.bundle", *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _run(self, words: list[str]) -> None:
        with self._start(words) as child:
            child.wait()
        assert child.returncode == 0, words


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rounds", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(bundle: Path, folder: Path, rounds: int, seed: int) -> None:
    """Run the rounds in FOLDER, and print how they ended and what is left there."""
    stress = Stress(bundle, folder, seed)
    for _ in range(rounds):
        stress.round()
    left = sorted(path.name for path in folder.iterdir())
    click.echo(f"{dict(stress.counts)}, left: {', '.join(left)}")


if __name__ == "__main__":
    main()
