"""Process start to weights in use: the torch target against diffusers, safetensors and the disk itself."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.memory import free_memory
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.compile import Job, compile_bundle
from mochi_aot.compiler.partition.mesh import parse_mesh
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.tools.benchmarks.contenders import Runs, check, in_turns
from mochi_aot.tools.benchmarks.file_cache import evict, warm
from mochi_aot.tools.benchmarks.host_memory import touch_memory
from mochi_aot.tools.benchmarks.timing import spread, spread_rows
from mochi_aot.tools.commands.text import human_bytes, table

# Size -> preset. The weights are what counts: the video is small, and its denoising step short.
SIZES = {"tiny": "tiny", "small": "bench", "middle": "middle", "full": "mochi-1"}
GEOMETRY = Geometry(32, 48, 7)

BUNDLE, READER, DIFFUSERS = "bundle", "reader", "diffusers"
SAFETENSORS = ("safetensors_mapped", "safetensors_read")
LIMITS = ("limit_direct", "limit_buffered")
RATED = (READER, *LIMITS)  # by what they read in a second, not by when they are done
STREAMED, LOADED_FIRST = "stream", "load_first"
FROM_CHECKPOINT = (DIFFUSERS, *SAFETENSORS)
COLD = (BUNDLE, READER, DIFFUSERS, *SAFETENSORS, *LIMITS, STREAMED, LOADED_FIRST)
WARM = (BUNDLE, DIFFUSERS, *SAFETENSORS)
# These need memory for all weights at once; so does the file cache for a warm start.
HOLDING = (DIFFUSERS, SAFETENSORS[1], LOADED_FIRST)

# A cold repetition counts if the process had this share of what it consumed from the disk.
ENOUGH_FROM_DISK = 0.98


@dataclass(frozen=True)
class StartResult:
    """What each contender printed in each repetition; repetition i of all ran one after the other.

    `memory` is in bytes a second: the first touch of fresh memory before all runs, and the median of those before each.
    """

    size: str
    preset: str
    weight_bytes: int
    cold: Runs
    warm: Runs
    memory: tuple[float, float]


def measure_start(folder: Path, size: str, repetitions: int, report: Callable[[str], None]) -> StartResult:
    """Makes what is measured in `folder`, unless it is there, then runs all contenders in turns, cold and warm.

    Those that hold all weights in memory are left out where that is too small for it. Before each run memory is touched
    and given back, so that nobody waits for memory that a virtual machine's host has to find.

    Raises MochiError if a contender fails, or was not cold although nothing of its files was in the file cache.
    """
    preset = SIZES[size]
    checkpoint, bundle = _prepare(folder, preset, report)
    files = {arm: _files(checkpoint, "*.safetensors") for arm in FROM_CHECKPOINT}
    weights = _files(bundle / "weights", "*")
    folders = dict.fromkeys(FROM_CHECKPOINT, checkpoint)
    weight_bytes = sum(path.stat().st_size for path in weights)
    holds_all = weight_bytes < free_memory() / 2
    touched = []

    def run(arm: str, cold: bool) -> dict[str, Any]:
        (evict if cold else warm)(files.get(arm, weights))
        touched.append(touch_memory(min(2 * weight_bytes, free_memory() // 2)))
        numbers = _run(arm, folders.get(arm, bundle))
        if cold and numbers["from_disk"] < ENOUGH_FROM_DISK * numbers["bytes"]:
            seen = f"{numbers['from_disk']} bytes came from the disk, {numbers['bytes']} were consumed"
            raise MochiError(f"{arm} was to start cold, but {seen}: does another process read the same files?")
        return numbers

    report("timing cold starts")
    contenders = COLD if holds_all else [arm for arm in COLD if arm not in HOLDING]
    cold = in_turns(contenders, repetitions, lambda arm: run(arm, True), report)
    report("timing warm starts" if holds_all else "no warm starts: the file cache is too small for the weights")
    warmed = in_turns(WARM, repetitions, lambda arm: run(arm, False), report) if holds_all else {}
    _check_equal(cold)
    return StartResult(size, preset, weight_bytes, cold, warmed, (touched[0], statistics.median(touched)))


def start_numbers(result: StartResult) -> dict[str, Any]:
    """What `--json` writes. Seconds, bytes a second, and ratios repetition by repetition."""
    cold, warmed = result.cold, result.warm
    return {
        "size": result.size,
        "preset": result.preset,
        "weight_bytes": result.weight_bytes,
        "memory": dict(zip(("first", "before each run"), result.memory, strict=True)),
        "cold": {arm: spread(_seconds(cold, arm)) for arm in cold},
        "warm": {arm: spread(_seconds(warmed, arm)) for arm in warmed},
        "bytes_per_second": {arm: spread(_rates(cold, arm)) for arm in RATED},
        "ratios": {name: spread(values) for name, values in _ratios(cold, warmed).items()},
        "streaming": {
            arm: {key: spread([run[key] for run in cold[arm]]) for key in ("first_program", "first_step", "resident")}
            for arm in (STREAMED, LOADED_FIRST)
            if arm in cold
        },
    }


def start_report(numbers: dict[str, Any]) -> str:
    """The same for people."""
    blocks = [
        ", ".join(f"{key} {value}" for key, value in numbers["machine"].items()),
        f"size {numbers['size']} (preset {numbers['preset']}), bundle's weights {human_bytes(numbers['weight_bytes'])}",
        "fresh memory: " + ", ".join(f"{name} {human_bytes(rate)}/s" for name, rate in numbers["memory"].items()),
    ]
    for state in ("cold", "warm"):
        seconds = {name: values for name, values in numbers[state].items() if name not in RATED}
        if seconds:
            header = [f"seconds from process start, {state}", "median", "lowest", "highest"]
            blocks += ["", table(header, spread_rows(seconds))]
    rates = spread_rows(numbers["bytes_per_second"], 1e-9)
    blocks += ["", table(["reading, cold, GB/s", "median", "lowest", "highest"], rates)]
    streaming = {f"{arm}: {key}": values for arm, keys in numbers["streaming"].items() for key, values in keys.items()}
    blocks += ["", table(["seconds from process start, cold", "median", "lowest", "highest"], spread_rows(streaming))]
    blocks += ["", table(["ratio", "median", "lowest", "highest"], spread_rows(numbers["ratios"]))]
    count = len(numbers["cold"][BUNDLE]["all"])
    compared = "; the same latents from both first steps" if LOADED_FIRST in numbers["cold"] else ""
    return "\n".join([*blocks, "", f"{count} repetitions, ratios within each{compared}"])


def _prepare(folder: Path, preset: str, report: Callable[[str], None]) -> tuple[Path, Path]:
    """Paths of a checkpoint and of its bundle for one device, both bfloat16."""
    checkpoint, bundle = folder / f"{preset}.checkpoint", folder / f"{preset}.bundle"
    if not checkpoint.exists():
        report("writing a checkpoint")
        write_checkpoint(checkpoint, PRESETS[preset], "diffusers", dtype=torch.bfloat16)
    if not bundle.exists():
        report("compiling it")
        compile_bundle(open_checkpoint(checkpoint), Job(parse_mesh("1x1"), (GEOMETRY,)), bundle)
    return checkpoint, bundle


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def _run(arm: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "mochi_aot.tools.benchmarks.start_arms", arm, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check(done, arm)
    numbers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def _check_equal(runs: Runs) -> None:
    made = {run["latents"] for arm in (STREAMED, LOADED_FIRST) for run in runs.get(arm, ())}
    if len(made) != 1:
        raise MochiError("latents depend on whether weights were loaded first: not compared")


def _ratios(cold: Runs, warmed: Runs) -> dict[str, list[float]]:
    limit = [max(rates) for rates in zip(*(_rates(cold, arm) for arm in LIMITS), strict=True)]
    safetensors = [min(some) for some in zip(*(_seconds(cold, arm) for arm in SAFETENSORS if arm in cold), strict=True)]
    streamed = cold[STREAMED]
    ratios = {
        "cold: reading over the limit": _over(_rates(cold, READER), limit),
        "cold: better safetensors over bundle": _over(safetensors, _seconds(cold, BUNDLE)),
        "cold: bytes from disk over distinct bytes": [run["from_disk"] / run["bytes"] for run in cold[BUNDLE]],
        "stream: bytes from disk over distinct bytes": [run["from_disk"] / run["bytes"] for run in streamed],
        "stream: first program over all resident": [run["first_program"] / run["resident"] for run in streamed],
    }
    if LOADED_FIRST in cold:
        after = [run["first_step"] for run in cold[LOADED_FIRST]]
        ratios["stream over load first: first step"] = _over([run["first_step"] for run in streamed], after)
    for state, runs in (("cold", cold), ("warm", warmed)):
        if DIFFUSERS in runs:
            ratios[f"{state}: diffusers over bundle"] = _over(_seconds(runs, DIFFUSERS), _seconds(runs, BUNDLE))
    return ratios


def _seconds(runs: Runs, arm: str) -> list[float]:
    return [run["seconds"] for run in runs[arm]]


def _rates(runs: Runs, arm: str) -> list[float]:
    return [run["bytes"] / run["reading"] for run in runs[arm]]


def _over(left: list[float], right: list[float]) -> list[float]:
    return [a / b for a, b in zip(left, right, strict=True)]
