"""Damage a bundle at random and run it: `python -m tests.corruption.run BUNDLE --device cpu|mock --number 2000`.

Each damage must end in an error of the bundle's (exit code 3) before a program uses the bytes. A child for each runs
`mochi-run`, forked with everything imported but ttnn; one that is killed, hangs, ends otherwise or makes a video is a
fault. A copy of the bundle is damaged, and mended after. --flips N flips single bits of the manifest
alone, and opens it.
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

CPU_SECONDS, SECONDS = 120, 1800  # that a child has, on a machine that may be overloaded
_MESSAGES = 2000  # bytes of a child's that are kept
_WORDS = ["--prompt", "a fox", "--steps", "1", "--seed", "1"]


def flip(data: bytearray, chance: random.Random) -> None:
    """Flip a bit."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def zero(data: bytearray, chance: random.Random) -> None:
    """Set up to a page to zero, as a lost write does."""
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.randint(1, 4096))
    data[start:stop] = bytes(stop - start)


def scramble(data: bytearray, chance: random.Random) -> None:
    """Write other bytes over some."""
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.randint(1, 4096))
    data[start:stop] = chance.randbytes(stop - start)


def cut(data: bytearray, chance: random.Random) -> None:
    """Take the end away."""
    del data[chance.randrange(len(data)) :]


def grow(data: bytearray, chance: random.Random) -> None:
    """Write more behind the end."""
    data += chance.randbytes(chance.randint(1, 4096))


def move(data: bytearray, chance: random.Random) -> None:
    """Exchange two pages' worth of bytes."""
    size = min(4096, len(data) // 2)
    first, second = chance.randrange(len(data) - 2 * size + 1), 0
    second = chance.randrange(first + size, len(data) - size + 1)
    data[first : first + size], data[second : second + size] = data[second : second + size], data[first : first + size]


WAYS: list[Callable[[bytearray, random.Random], None]] = [flip, flip, flip, zero, scramble, cut, grow, move]


def places(bundle: Path) -> dict[Path, list[slice]]:
    """Return which bytes of which files matter to a video of the first geometry, in a bundle that is whole.

    Zeros between shards do not, nor notices, programs of other geometries, or weights that only those have or `encode`.
    """
    from mochi_aot.artifacts import Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest
    first = manifest.geometries[0]
    used = [index for other in manifest.geometries[1:] for index in other.programs.values()]
    spare = set(used) - set(first.programs.values()) | {*manifest.notices.values()}
    found = {bundle / file.path: [slice(None)] for index, file in enumerate(manifest.files) if index not in spare}
    found = {path: whole for path, whole in found.items() if path.parent.name != "weights"}
    found[bundle / "manifest.msgpack"] = [slice(None)]
    roles = [role for role in first.programs if role != "encode"]
    for name in sorted({weight.name for role in roles for weight in opened.program(role, first).weights}):
        for part in opened.parts(name):
            path = bundle / manifest.files[part.file].path
            found.setdefault(path, []).append(slice(part.offset, part.offset + part.nbytes))
    return found


@contextlib.contextmanager
def damaged(bundle: Path, matter: dict[Path, list[slice]], chance: random.Random) -> Iterator[str]:
    """Damage a file, all kinds equally often, and yield in what way; the file is as it was at the end."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(matter):
        kinds.setdefault(f"{path.parent.relative_to(bundle)}/*{path.suffix}", []).append(path)
    kind, paths = chance.choice(sorted(kinds.items()))
    path = chance.choice(paths)
    whole = path.read_bytes()
    twins = [other for other in paths if other != path and other.stat().st_size == len(whole)]
    other = chance.choice(twins) if twins and chance.random() < 0.3 else None
    data = bytearray(whole if other is None else other.read_bytes())
    way = "put another file in the place of" if other else ""
    while len(data) == len(whole) and all(data[part] == whole[part] for part in matter[path]):
        change = chance.choice(WAYS)
        way = change.__name__
        change(data, chance)
    path.write_bytes(data)
    try:
        yield f"{way} {kind}"
    finally:
        path.write_bytes(whole)


def run_in_child(bundle: Path, device: str, output: Path) -> tuple[int, str]:
    """Run a bundle in a child. Return its exit code, or minus the signal that ended it, and the end of its messages."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        os._exit(_run(bundle, device, output))
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read()[-_MESSAGES:].decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _run(bundle: Path, device: str, output: Path) -> int:
    from mochi_aot.tools.commands.run import main

    sys.stderr = io.TextIOWrapper(io.FileIO(2, "wb", closefd=False), write_through=True)
    try:
        main([str(bundle), *_WORDS, "--device", device, "-o", str(output)])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def campaign(bundle: Path, device: str, number: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage a bundle in `number` ways. Return how often what ended as it should, and what did not."""
    chance = random.Random(seed)
    sound: Counter[str] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        copy, made = Path(folder, "b"), Path(folder, "made")
        shutil.copytree(bundle, copy)
        matter = places(copy)
        for count in range(number):
            if count and count % 100 == 0:
                print(f"{count} of {number} damages, {len(faults)} faults", file=sys.stderr)
            made.mkdir()
            with damaged(copy, matter, chance) as what:
                code, said = run_in_child(copy, device, made / "out.mp4")
            if code == 3 and not (made / "out.mp4").exists() and "Traceback" not in said:
                sound[what] += 1
            else:
                faults.append(f"{count}: {what}: exit code {code}, {said[-300:]!a}")
            shutil.rmtree(made)
    return sound, faults


def accepted_flips(bundle: Path, number: int, seed: int) -> int:
    """Return how many of `number` bits, flipped each alone in the manifest, leave a bundle that opens."""
    from mochi_aot.artifacts import Bundle, BundleError

    chance, accepted = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "b")
        shutil.copytree(bundle, copy, copy_function=os.symlink)
        Bundle.open(copy)  # or else a bundle of another version would pass
        manifest = copy / "manifest.msgpack"
        whole = manifest.read_bytes()
        for bit in chance.sample(range(8 * len(whole)), min(number, 8 * len(whole))):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            manifest.unlink()
            manifest.write_bytes(data)
            with contextlib.suppress(BundleError):
                Bundle.open(copy)
                accepted += 1
    return accepted


def main() -> None:
    """Run what the command line says, and end with code 1 if anything was a fault."""
    parser = argparse.ArgumentParser(description="Damage a bundle at random and run it.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", choices=("cpu", "mock"), default="cpu")
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--flips", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.flips:
        accepted = accepted_flips(given.bundle, given.flips, given.seed)
        print(f"{given.flips} flips of the manifest, {accepted} accepted")
        raise SystemExit(accepted > 0)
    if given.device == "cpu":
        import torch  # noqa: F401  for the children
    sound, faults = campaign(given.bundle, given.device, given.number, given.seed)
    for what, count in sorted(sound.items()):
        print(f"{count:5} {what}")
    print(*faults, sep="\n")
    print(f"{given.number} damages, {sum(sound.values())} found, {len(faults)} faults")
    raise SystemExit(len(faults) > 0)


if __name__ == "__main__":
    main()
