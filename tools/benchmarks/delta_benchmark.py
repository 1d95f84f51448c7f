"""`mochi-bench delta`: a LoRA as a bundle and as a delta of its base, and switching between both in one process."""

import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mochi_aot
from mochi_aot.artifacts.delta import OpenDelta
from mochi_aot.artifacts.delta_writer import write_delta
from mochi_aot.artifacts.low_rank import factor_bytes
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.tools.benchmarks.prepare import prepare
from mochi_aot.tools.benchmarks.report import machine_line, spread, spread_table
from mochi_aot.tools.benchmarks.seeded_lora import write_seeded_lora
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.timing import seconds_of
from mochi_aot.tools.commands.text import human_bytes

STAY, SWITCH, LOAD = "the same style", "another delta", "the style's bundle"
PROMPT = "a fox"


@dataclass(frozen=True)
class DeltaResult:
    """Bytes of the base's weights, of what the LoRA touches of them, of files that a relink wrote and did not link, of
    the LoRA's factors and of the delta; seconds of a relink and of copying what it wrote, and for each way of going on
    those of one denoising step and of what comes before."""

    size: str
    rank: int
    weight_bytes: int
    touched_bytes: int
    written_bytes: int
    factor_bytes: int
    delta_bytes: int
    relink_seconds: float
    copy_seconds: float
    seconds: dict[str, list[float]]


def measure_delta(folder: Path, size: str, rank: int, repetitions: int, report: Callable[[str], None]) -> DeltaResult:
    """Make in `folder`, unless they are there, a bundle and two of the same checkpoint with LoRAs of attention, and the
    deltas; then time a step after a switch between the deltas, after none, and with the second bundle loaded anew.

    What is timed begins with weights in the file cache. Raise MochiError.
    """
    checkpoint, base = prepare(folder, SIZES[size].preset, "torch", "1x1", SIZES[size].start, report)
    report("compiling with a LoRA")
    relinked = [_relink(folder, checkpoint, base, size, rank, seed) for seed in (1, 2)]
    opened = Bundle.open(base)
    deltas = [folder / f"style{seed}.delta" for seed in (1, 2)]
    report("writing deltas")
    for seed, place in enumerate(deltas, 1):
        write_delta(opened, Bundle.open(_style(folder, seed)), place, True, "mochi-bench")
    report("timing switches")
    seconds = _switches(base, _style(folder, 2), deltas, repetitions)
    delta = OpenDelta.open(deltas[0]).delta
    touched = {part for tuned in delta.tuned for part in opened.parts(tuned.name)}
    written = _written(base, _style(folder, 1))
    return DeltaResult(
        size,
        rank,
        sum(file.nbytes for file in opened.manifest.files if file.path.startswith("weights/")),
        sum(part.nbytes for part in touched),
        sum(path.stat().st_size for path in written),
        sum(map(factor_bytes, delta.factors)),
        sum(path.stat().st_size for path in deltas[0].rglob("*") if path.is_file()),
        statistics.median(relinked),
        seconds_of(lambda: _copy(written, folder / "copy")),
        seconds,
    )


def _style(folder: Path, seed: int) -> Path:
    return folder / f"style{seed}.bundle"


def _relink(folder: Path, checkpoint: Path, base: Path, size: str, rank: int, seed: int) -> float:
    """Compile with a seeded LoRA, and return the seconds that it took."""
    lora = folder / f"style{seed}.safetensors"
    write_seeded_lora(lora, PRESETS[SIZES[size].preset].dit, rank, seed)
    return mochi_aot.compile(
        checkpoint,
        mesh="1x1",
        output=_style(folder, seed),
        geometries=SIZES[size].start,
        target="torch",
        loras=lora,
        reuse=base,
        trust_times=True,
        force=True,
    ).seconds


def _written(base: Path, style: Path) -> list[Path]:
    """Return the files of a style's weights that are not the base's too."""
    inodes = {path.stat().st_ino for path in (base / "weights").iterdir()}
    return [path for path in sorted((style / "weights").iterdir()) if path.stat().st_ino not in inodes]


def _copy(files: list[Path], folder: Path) -> None:
    """Read files and write them again, to the disk."""
    folder.mkdir()
    for path in files:
        copy = folder / path.name
        shutil.copyfile(path, copy)
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(folder)


def _switches(base: Path, style: Path, deltas: list[Path], repetitions: int) -> dict[str, list[float]]:
    """Return seconds by the way of going on; those of repetition i follow each other."""
    found: dict[str, list[float]] = {STAY: [], SWITCH: [], LOAD: []}
    with mochi_aot.load(base, delta=deltas[0]) as pipe:
        embeds = pipe.encode_prompt(PROMPT)

        def step(pipeline: mochi_aot.VideoPipeline) -> None:
            pipeline(**embeds._asdict(), num_inference_steps=1, seed=1, output_type="latent")

        def load() -> None:
            with mochi_aot.load(style) as fresh:
                step(fresh)

        def switch(to: Path) -> None:
            pipe.use_delta(to)
            step(pipe)

        step(pipe)
        load()
        for index in range(repetitions):
            found[STAY].append(seconds_of(lambda: step(pipe)))
            to = deltas[(index + 1) % 2]
            found[SWITCH].append(seconds_of(lambda: switch(to)))  # noqa: B023  called at once
            found[LOAD].append(seconds_of(load))
    return found


def delta_numbers(result: DeltaResult) -> dict[str, Any]:
    """Return all numbers, as JSON has them."""
    seconds = {name: spread(values) for name, values in result.seconds.items()}
    names = [field.name for field in fields(result) if field.name != "seconds"]
    return {**{name: getattr(result, name) for name in names}, "seconds": seconds}


def delta_report(numbers: dict[str, Any]) -> str:
    """Return the tables for people."""
    share = numbers["delta_bytes"] / numbers["factor_bytes"]
    return "\n".join(
        [
            machine_line(numbers),
            f"{numbers['size']}, LoRA of rank {numbers['rank']}: {human_bytes(numbers['delta_bytes'])} of delta, "
            f"{share:.3f} of its factors, for {human_bytes(numbers['touched_bytes'])} of "
            f"{human_bytes(numbers['weight_bytes'])} of weights",
            f"compile with --reuse and --trust-times: {numbers['relink_seconds']:.1f} s; it wrote "
            f"{numbers['written_bytes'] / numbers['touched_bytes']:.3f} of what the LoRA touches, "
            f"which is copied in {numbers['copy_seconds']:.1f} s",
            spread_table("seconds to a denoising step of", numbers["seconds"]),
        ]
    )
