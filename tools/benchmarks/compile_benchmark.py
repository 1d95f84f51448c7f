"""A compile against `cp` of its checkpoint: seconds of each, in turns, and the memory that the compile needs."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.runtime.ttnn.mocked import mocked_mesh
from mochi_aot.tools.benchmarks.file_cache import evict
from mochi_aot.tools.benchmarks.sizes import SIZES

SAMPLE_SECONDS = 0.02
MATRIX = (3072, 8192)  # whose conversion is timed
WRITING = ("write weights", "finish", "end")  # the phases that grow with the weights; `end` is the process's own


@dataclass(frozen=True)
class Compile:
    """One compile in a process of its own: seconds of each phase, bytes of anonymous memory, bytes that it wrote.

    The phases are those of mochi-compile's profile, and `end`: what the process took besides.
    """

    phases: dict[str, float]
    peak_anonymous: int
    bundle_bytes: int

    @property
    def seconds(self) -> float:
        """Of the whole process."""
        return sum(self.phases.values())

    @property
    def writing(self) -> float:
        """Seconds of the phases that grow with the weights."""
        return sum(self.phases[name] for name in WRITING)


@dataclass
class CompileResult:
    """Repetition i of the copy ran right beside repetition i of the compile. `conversion_seconds` is what the dtype
    alone takes for all weights, on all processors."""

    checkpoint_bytes: int
    conversion_seconds: float
    copies: list[float] = field(default_factory=list)
    compiles: list[Compile] = field(default_factory=list)


def measure_compile(
    folder: Path,
    size_name: str,
    mesh: str,
    target: str,
    weights_dtype: str,
    repetitions: int,
    report: Callable[[str], None],
) -> CompileResult:
    """Write a bfloat16 checkpoint in `folder`, unless it is there, then copy and compile it in turns.

    Who goes first changes. Before each its files are dropped from the page cache; after each, within the time, what it
    wrote is on the disk. `report` is told each phase. Raises MochiError if a compile fails.
    """
    size = SIZES[size_name]
    checkpoint = folder / f"{size.preset}.checkpoint"
    if not checkpoint.exists():
        report("writing a checkpoint")
        write_checkpoint(checkpoint, PRESETS[size.preset], "diffusers", dtype=torch.bfloat16)
    subprocess.run(["sync", "-f", checkpoint], check=True)
    result = CompileResult(bytes_in(checkpoint), 0.0)
    options = ["--mesh", mesh, "--target", target, "--geometry", size.compile, "--weights-dtype", weights_dtype]
    for number in range(repetitions):
        report(f"repetition {number + 1} of {repetitions}")
        for kind in ("copy", "compile") if number % 2 == 0 else ("compile", "copy"):
            evict(files_in(checkpoint))
            if kind == "copy":
                result.copies.append(copy(checkpoint, folder / "copy"))
            else:
                result.compiles.append(compile_once(checkpoint, options, folder / "bundle"))
    if target == "ttnn":
        report("timing the conversion")
        result.conversion_seconds = result.checkpoint_bytes / conversion_rate(weights_dtype)
    return result


def copy(source: Path, place: Path) -> float:
    """Seconds that `cp` takes, and syncing what it wrote."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", source, place], check=True)
    subprocess.run(["sync", "-f", place], check=True)
    for path in files_in(place):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    shutil.rmtree(place)
    return seconds


def compile_once(checkpoint: Path, options: list[str], place: Path) -> Compile:
    """Run mochi-compile, watching its memory; the bundle is removed. MochiError with what it said if it fails."""
    profile, errors = place.with_name("profile.json"), place.with_name("errors")
    command = [sys.executable, "-m", "mochi_aot.tools.commands.compile", *options]
    command += ["--checkpoint", str(checkpoint), "-o", str(place), "--profile", str(profile)]
    start, peak = time.perf_counter(), 0
    with errors.open("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        while child.poll() is None:
            peak = max(peak, anonymous_bytes(child.pid))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - start
    if child.returncode != 0:
        raise MochiError(f"mochi-compile ended with {child.returncode}: {errors.read_text().strip()[-400:]}")
    phases: dict[str, float] = json.loads(profile.read_text())["ledger"]["seconds"]
    nbytes = bytes_in(place)
    errors.unlink()
    profile.unlink()
    shutil.rmtree(place)
    return Compile({**phases, "end": max(seconds - sum(phases.values()), 0.0)}, peak, nbytes)


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file holds; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def conversion_rate(dtype: str) -> float:
    """Bytes of bfloat16 a second that ttnn lays out in tiles of `dtype`, with a thread on each processor."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_mocked_conversion_rate, (dtype,))


def _mocked_conversion_rate(dtype: str) -> float:
    with mocked_mesh((1, 1)):
        return _conversion_rate(dtype)


def _conversion_rate(dtype: str) -> float:
    import ttnn

    threads = max(2, len(os.sched_getaffinity(0)))
    matrix = torch.randn(MATRIX).to(torch.bfloat16)

    def convert(_: int) -> None:
        torch.set_num_threads(1)
        ttnn.from_torch(matrix.T.contiguous(), dtype=getattr(ttnn, dtype), layout=ttnn.TILE_LAYOUT)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(convert, range(threads)))
        start = time.perf_counter()
        list(pool.map(convert, range(8 * threads)))
        return 8 * threads * matrix.nbytes / (time.perf_counter() - start)


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in files_in(folder))


def files_in(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
