"""Processes that write one output at the same time: python -m mochi_aot.tools.stress.writers FOLDER [--rounds N].

Each round one of them must win, the others must say that the place is taken, and nothing else may be left.
"""

import multiprocessing
import random
import shutil
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click

from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.errors import BundleExistsError
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MANIFEST_PATH
from mochi_aot.artifacts.schema import File
from mochi_aot.artifacts.staging import StagedFolder

_FILES = 4  # of each output, all with the same text
_LATEST = 0.002  # seconds that a writer may be late, or take
_MANIFEST = pack(MANIFEST_MAGIC, File("", 0, ""), "manifest")  # enough to be replaced with force


def write_rounds(folder: Path, writers: int, rounds: int, force: bool, seed: int = 0) -> Counter[str]:
    """Have processes write `folder`/out again and again, and return how often what came of it.

    Raise AssertionError for a round without a winner, with several (unless with `force`), or with anything lost,
    mixed or left behind.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(writers + 1)
    pipes = [context.Pipe() for _ in range(writers)]
    processes = [
        context.Process(target=_write, args=(folder / "out", force, rounds, barrier, pipes[n][1], f"{seed}.{n}"))
        for n in range(writers)
    ]
    for process in processes:
        process.start()
    told: Counter[str] = Counter()
    try:
        for number in range(rounds):
            barrier.wait(60)
            outcomes = [ours.recv() for ours, _ in pipes]
            told.update(outcome for outcome, _ in outcomes)
            _check(folder, number, outcomes, force)
            shutil.rmtree(folder / "out")
    finally:
        for process in processes:
            process.kill()
            process.join()
    return told


def _check(folder: Path, number: int, outcomes: list[tuple[str, str]], force: bool) -> None:
    winners = [text for outcome, text in outcomes if outcome == "won"]
    assert len(winners) == 1 or (force and winners), f"round {number}: {outcomes}"
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["out"], f"round {number}: {found}"
    texts = {path.read_text() for path in (folder / "out").iterdir() if path.name != MANIFEST_PATH}
    assert len(texts) == 1 and texts <= set(winners), f"round {number}: {texts} of {winners}"


def _write(path: Path, force: bool, rounds: int, barrier: Barrier, told: Connection, seed: str) -> None:
    chance = random.Random(seed)
    for number in range(rounds):
        text = f"{seed} {number}"
        barrier.wait(60)
        time.sleep(chance.uniform(0, _LATEST))
        staged = StagedFolder(path, force)
        try:
            staged.create()
            for index in range(_FILES):
                (staged.folder / str(index)).write_text(text)
            (staged.folder / MANIFEST_PATH).write_bytes(_MANIFEST)
            time.sleep(chance.choice((0, chance.uniform(0, _LATEST))))
            staged.publish()
            outcome = "won"
        except BundleExistsError as error:
            outcome = "taken: " + ("being written" if "being written" in str(error) else "exists")
        finally:
            staged.discard()
        told.send((outcome, text))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rounds", default=10_000, show_default=True)
@click.option("--writers", default=2, show_default=True)
@click.option("--force", is_flag=True, help="Each writer replaces what is there.")
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, rounds: int, writers: int, force: bool, seed: int) -> None:
    """Let processes write an output in FOLDER, which is empty, at the same time, and count what comes of it."""
    told = write_rounds(folder, writers, rounds, force, seed)
    click.echo(f"{rounds} rounds of {writers} writers{' with force' if force else ''}: nothing lost; {dict(told)}")


if __name__ == "__main__":
    main()
