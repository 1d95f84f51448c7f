"""`mochi-bench start`: process start to weights in use; the torch target, diffusers, safetensors, the disk itself."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.memory import free_memory
from mochi_aot.tools.benchmarks.file_cache import evict, warm
from mochi_aot.tools.benchmarks.host_memory import touch_memory
from mochi_aot.tools.benchmarks.prepare import prepare
from mochi_aot.tools.benchmarks.report import machine_line, ratios, spread, spread_table
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.variants import Runs, in_turns, run_variant
from mochi_aot.tools.commands.text import human_bytes

BUNDLE, UNCHECKED, READER, DIFFUSERS = "bundle", "unchecked", "reader", "diffusers"
SAFETENSORS = ("safetensors_mapped", "safetensors_read")
LIMITS = ("limit_direct", "limit_buffered")
RATED = (READER, *LIMITS)  # by what they read in a second, not by when they are done
STREAMED, LOADED_FIRST = "stream", "load_first"
FROM_CHECKPOINT = (DIFFUSERS, *SAFETENSORS)
COLD = (BUNDLE, UNCHECKED, READER, DIFFUSERS, *SAFETENSORS, *LIMITS, STREAMED, LOADED_FIRST)
WARM = (BUNDLE, UNCHECKED, DIFFUSERS, *SAFETENSORS)
# These need memory for all weights at once; so does the file cache for a warm start.
HOLDING = (DIFFUSERS, SAFETENSORS[1], LOADED_FIRST)

# A cold repetition counts if the process had this share of what it consumed from the disk.
ENOUGH_FROM_DISK = 0.98


@dataclass(frozen=True)
class StartResult:
    """What each variant printed in each repetition; repetition i of all ran one after the other.

    `memory` is in bytes a second: the first touch of fresh memory before all runs, and the median of those before each.
    """

    size: str
    weight_bytes: int
    cold: Runs
    warm: Runs
    memory: tuple[float, float]


def measure_start(
    folder: Path, size: str, repetitions: int, report: Callable[[str], None], only_check: bool = False
) -> StartResult:
    """Make what is measured in `folder`, unless it is there, then run all variants in turns, cold and warm.

    With `only_check` just the bundle runs, with and without its weights being checked.
    Those that hold all weights in memory are left out where that is too small for it. Before each run memory is touched
    and given back, so that nobody waits for memory that a virtual machine's host has to find.

    Raise MochiError if a variant fails, or was not cold although nothing of its files was in the file cache.
    """
    checkpoint, bundle = prepare(folder, SIZES[size].preset, "torch", "1x1", SIZES[size].start, report)
    files = {variant: _files(checkpoint, "*.safetensors") for variant in FROM_CHECKPOINT}
    weights = _files(bundle / "weights", "*")
    folders = dict.fromkeys(FROM_CHECKPOINT, checkpoint)
    weight_bytes = sum(path.stat().st_size for path in weights)
    holds_all = weight_bytes < free_memory() / 2
    touched = []

    def run(variant: str, cold: bool) -> dict[str, Any]:
        (evict if cold else warm)(files.get(variant, weights))
        touched.append(touch_memory(min(2 * weight_bytes, free_memory() // 2)))
        numbers = _run(variant, folders.get(variant, bundle))
        if cold and numbers["from_disk"] < ENOUGH_FROM_DISK * numbers["bytes"]:
            seen = f"{numbers['from_disk']} bytes came from the disk, {numbers['bytes']} were consumed"
            raise MochiError(f"{variant} was to start cold, but {seen}: does another process read the same files?")
        return numbers

    report("timing cold starts")
    variants = (
        _chosen(COLD, only_check) if holds_all else _chosen([one for one in COLD if one not in HOLDING], only_check)
    )
    cold = in_turns(variants, repetitions, lambda variant: run(variant, True), report)
    report("timing warm starts" if holds_all else "no warm starts: the file cache is too small for the weights")
    warmed = (
        in_turns(_chosen(WARM, only_check), repetitions, lambda variant: run(variant, False), report)
        if holds_all
        else {}
    )
    if not only_check:
        _check_equal(cold)
    return StartResult(size, weight_bytes, cold, warmed, (touched[0], statistics.median(touched)))


def start_numbers(result: StartResult) -> dict[str, Any]:
    """Return what `--json` writes. Seconds, bytes a second, and ratios repetition by repetition."""
    cold, warmed = result.cold, result.warm
    return {
        "size": result.size,
        "preset": SIZES[result.size].preset,
        "weight_bytes": result.weight_bytes,
        "memory": dict(zip(("first", "before each run"), result.memory, strict=True)),
        "cold": {variant: spread(_seconds(cold, variant)) for variant in cold},
        "warm": {variant: spread(_seconds(warmed, variant)) for variant in warmed},
        "bytes_per_second": {variant: spread(_rates(cold, variant)) for variant in RATED if variant in cold},
        "ratios": {name: spread(values) for name, values in _ratios(cold, warmed).items()},
        "streaming": {
            variant: {
                key: spread([run[key] for run in cold[variant]]) for key in ("first_program", "first_step", "resident")
            }
            for variant in (STREAMED, LOADED_FIRST)
            if variant in cold
        },
    }


def start_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    blocks = [
        machine_line(numbers),
        f"size {numbers['size']} (preset {numbers['preset']}), bundle's weights {human_bytes(numbers['weight_bytes'])}",
        "fresh memory: " + ", ".join(f"{name} {human_bytes(rate)}/s" for name, rate in numbers["memory"].items()),
    ]
    for state in ("cold", "warm"):
        seconds = {name: values for name, values in numbers[state].items() if name not in RATED}
        if seconds:
            blocks += ["", spread_table(f"seconds from process start, {state}", seconds)]
    streaming = {f"{of}: {key}": values for of, keys in numbers["streaming"].items() for key, values in keys.items()}
    if numbers["bytes_per_second"]:
        blocks += ["", spread_table("reading, cold, GB/s", numbers["bytes_per_second"], 1e-9)]
    if streaming:
        blocks += ["", spread_table("seconds from process start, cold", streaming)]
    blocks += ["", spread_table("ratio", numbers["ratios"])]
    count = len(numbers["cold"][BUNDLE]["all"])
    compared = "; the same latents from both first steps" if LOADED_FIRST in numbers["cold"] else ""
    return "\n".join([*blocks, "", f"{count} repetitions, ratios within each{compared}"])


def _chosen(variants: Sequence[str], only_check: bool) -> list[str]:
    return [variant for variant in variants if not only_check or variant in (BUNDLE, UNCHECKED)]


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def _run(variant: str, folder: Path) -> dict[str, Any]:
    return run_variant("start_variants", variant, [folder])


def _check_equal(runs: Runs) -> None:
    made = {run["latents"] for variant in (STREAMED, LOADED_FIRST) for run in runs.get(variant, ())}
    if len(made) != 1:
        raise MochiError("latents depend on whether weights were loaded first: not compared")


def _ratios(cold: Runs, warmed: Runs) -> dict[str, list[float]]:
    made = _others(cold) if READER in cold else {}
    for state, runs in (("cold", cold), ("warm", warmed)):
        if DIFFUSERS in runs:
            made[f"{state}: diffusers over bundle"] = ratios(_seconds(runs, DIFFUSERS), _seconds(runs, BUNDLE))
        if UNCHECKED in runs:
            made[f"{state}: bundle over unchecked"] = ratios(_seconds(runs, BUNDLE), _seconds(runs, UNCHECKED))
    return made


def _others(cold: Runs) -> dict[str, list[float]]:
    """Return the ratios of cold starts with all variants."""
    limit = [max(rates) for rates in zip(*(_rates(cold, variant) for variant in LIMITS), strict=True)]
    safetensors = [
        min(some) for some in zip(*(_seconds(cold, variant) for variant in SAFETENSORS if variant in cold), strict=True)
    ]
    streamed = cold[STREAMED]
    made = {
        "cold: reading over the limit": ratios(_rates(cold, READER), limit),
        "cold: better safetensors over bundle": ratios(safetensors, _seconds(cold, BUNDLE)),
        "cold: bytes from disk over distinct bytes": [run["from_disk"] / run["bytes"] for run in cold[BUNDLE]],
        "stream: bytes from disk over distinct bytes": [run["from_disk"] / run["bytes"] for run in streamed],
        "stream: first program over all resident": [run["first_program"] / run["resident"] for run in streamed],
    }
    if LOADED_FIRST in cold:
        after = [run["first_step"] for run in cold[LOADED_FIRST]]
        made["stream over load first: first step"] = ratios([run["first_step"] for run in streamed], after)
    return made


def _seconds(runs: Runs, variant: str) -> list[float]:
    return [run["seconds"] for run in runs[variant]]


def _rates(runs: Runs, variant: str) -> list[float]:
    return [run["bytes"] / run["reading"] for run in runs[variant]]
