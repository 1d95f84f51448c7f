"""Fuzz one kind of input for as long as is wanted: `python -m tests.fuzz.run KIND --seconds 3600`.

With atheris (`pip install atheris`) what covers new lines of this project is kept and changed further; without it, or
with --plain, the changes are random. Both change the tree of a file, not only its bytes. What raises an exception that
is not the project's own is written to --crashes, and named; add it to tests/fuzz/corpus with the mend.
"""

import argparse
import hashlib
import importlib.util
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path

from mochi_aot.artifacts.memory import peak_memory

_MEMORY = 6 << 30  # bytes of addresses; a claim of a file that takes more is an error of the allocator's
_INSTRUMENTED = ["mochi_aot.artifacts", "mochi_aot.runtime", "mochi_aot.compiler.checkpoint"]


class Counter:
    """Runs a subject, and counts."""

    def __init__(self, kind: str, crashes: Path) -> None:
        from tests.fuzz.subjects import SUBJECTS

        self.kind, self.subject, self._crashes = kind, SUBJECTS[kind], crashes
        self.runs = self.accepted = 0
        self.slowest = 0.0
        self.faults: dict[str, Path] = {}

    def run(self, data: bytes) -> None:
        """Read one file, and keep it if it breaks something that nothing has broken before."""
        started = time.process_time()
        try:
            self.accepted += self.subject.run(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._keep(error, data)
        self.runs += 1
        self.slowest = max(self.slowest, time.process_time() - started)

    def _keep(self, error: BaseException, data: bytes) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if key not in self.faults:
            self._crashes.mkdir(parents=True, exist_ok=True)
            path = self._crashes / f"{self.kind}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            self.faults[key] = path
            self.say(f"{key}: {str(error)[:200]!a}: {path}")

    def report(self) -> None:
        """Say how many files were read."""
        peak = peak_memory() / 2**20
        what = f"{self.runs} runs, {self.accepted} accepted, slowest {self.slowest:.2f} s, peak {peak:.0f} MiB"
        self.say(f"{self.kind}: {what}, {len(self.faults)} faults")

    def say(self, text: str) -> None:
        """Write a line to what was stderr when the process began: what libraries write there is thrown away."""
        os.write(_said, text.encode(errors="backslashreplace") + b"\n")


def starts(kind: str) -> list[bytes]:
    """Return the files to begin with."""
    from tests.fuzz.corpus import corpus
    from tests.fuzz.subjects import SUBJECTS

    return [*SUBJECTS[kind].seeds(), *corpus(kind).values()]


def run_plain(counter: Counter, seconds: float, seed: int) -> None:
    """Change files at random: those to begin with, and some that were made of them."""
    from tests.fuzz.mutations import mutated

    pool, choice = starts(counter.kind), random.Random(seed)
    known, end = len(pool), time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(choice.choice(pool), counter.subject.form, choice.getrandbits(48))
        before = counter.accepted
        counter.run(data)
        if counter.accepted > before:  # what is still read is worth another change
            if len(pool) < 200:
                pool.append(data)
            else:
                pool[choice.randrange(known, 200)] = data


def run_atheris(kind: str, crashes: Path, seconds: float, seed: int) -> None:
    """Let libFuzzer choose what to change further. It ends the process."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        counter = Counter(kind, crashes)
    from tests.fuzz.mutations import MAX_BYTES, mutated

    def change(data: bytes, limit: int, seed: int) -> bytes:
        return mutated(data, counter.subject.form, seed)[:limit]

    folder = crashes / f"corpus-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    for data in starts(kind):
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    end = time.monotonic() + seconds

    def one(data: bytes) -> None:
        counter.run(data)
        if time.monotonic() > end:
            counter.report()
            os._exit(1 if counter.faults else 0)

    options = [f"-max_len={MAX_BYTES}", f"-seed={seed}", "-rss_limit_mb=0", "-timeout=60", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one, custom_mutator=change)
    atheris.Fuzz()


def main() -> None:
    """Read the command line, and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    given = parser.parse_args()
    os.environ["RUST_BACKTRACE"] = "0"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if not given.plain and importlib.util.find_spec("atheris") is not None:
        run_atheris(given.kind, given.crashes, given.seconds, given.seed)
    counter = Counter(given.kind, given.crashes)
    run_plain(counter, given.seconds, given.seed)
    counter.report()
    sys.exit(1 if counter.faults else 0)


if __name__ == "__main__":
    _said = os.dup(2)
    main()
