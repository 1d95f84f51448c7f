"""A compile against `cp` of its checkpoint: seconds of each, in turns, and the memory that the compile needs."""

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
from mochi_aot.tools.benchmarks.file_cache import evict
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.commands.compiling import make_job, target_ready

SAMPLE_SECONDS = 0.02
MATRIX = (3072, 8192)  # whose conversion is timed


@dataclass(frozen=True)
class Compile:
    """One compile in a process of its own: seconds of each phase, bytes of anonymous memory, bytes that it wrote."""

    phases: dict[str, float]
    peak_anonymous: int
    bundle_bytes: int

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


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
    """Writes a bfloat16 checkpoint in `folder`, unless it is there, then copies and compiles it in turns.

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
    command = [
        sys.executable,
        "-m",
        "mochi_aot.tools.commands.compile",
        "--checkpoint",
        str(checkpoint),
        "-o",
        str(place),
    ]
    start, peak, marks = time.perf_counter(), 0, [("start", time.perf_counter())]
    errors = place.with_name("errors")
    with errors.open("w+") as log, subprocess.Popen([*command, *options], stdout=log, stderr=log) as child:
        while child.poll() is None:
            peak = max(peak, anonymous_bytes(child.pid))
            phase = _last_phase(errors)
            if phase not in (None, marks[-1][0]):
                marks.append((str(phase), time.perf_counter()))
            time.sleep(SAMPLE_SECONDS)
    end = time.perf_counter()
    if child.returncode != 0:
        raise MochiError(f"mochi-compile ended with {child.returncode}: {errors.read_text().strip()[-400:]}")
    errors.unlink()
    nbytes = bytes_in(place)
    shutil.rmtree(place)
    starts = [start, *(mark for _, mark in marks[1:]), end]
    return Compile({name: starts[i + 1] - starts[i] for i, (name, _) in enumerate(marks)}, peak, nbytes)


def _last_phase(log: Path) -> str | None:
    """The first word of the last phase that a compile has reported."""
    phases = [line.split()[0] for line in log.read_text().splitlines() if line.startswith(PHASES)]
    return phases[-1] if phases else None


PHASES = ("tracing ", "partitioning ", "running ", "writing ")


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
    with target_ready(make_job("1x1", (), "auto", "bfloat16", "ttnn", dtype, "bfloat16")):
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
