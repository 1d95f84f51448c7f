"""`mochi-bench step`: one guided denoising step of a bundle against the same step with diffusers' transformer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.compiler.checkpoint import open_checkpoint
from mochi_aot.compiler.checkpoint.presets import PRESETS
from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.partition.mesh import parse_mesh
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.pipeline import Pipeline
from mochi_aot.tools.benchmarks.guided_steps import (
    BundleStep,
    DiffusersStep,
    diffusers_transformer,
    make_inputs,
    read_transformer,
)
from mochi_aot.tools.benchmarks.overhead import instruction_overhead
from mochi_aot.tools.benchmarks.report import machine_line, spread, spread_table
from mochi_aot.tools.benchmarks.sizes import SIZES
from mochi_aot.tools.benchmarks.timing import Comparison, compare
from mochi_aot.tools.commands.text import human_count

# The largest difference of an update over its largest value. float32: rounding. bfloat16: an element is rounded about
# twenty times a layer, by 2^-9 each, and guidance weighs the two rows with 4.5 and -3.5.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


class ResultsDifferError(MochiError):
    """The two steps do not compute the same, so that comparing their times would mean nothing."""

    exit_code = ExitCode.FAULT


@dataclass(frozen=True)
class StepResult:
    """What was measured. Seconds; `instruction_overhead` is what the runtime adds to the kernel of one instruction."""

    size: str
    dtype: str
    difference: float
    times: Comparison
    flops: int
    instructions: int
    instruction_overhead: float


def measure_step(folder: Path, size: str, dtype: str, repetitions: int, report: Callable[[str], None]) -> StepResult:
    """Make what is measured in `folder`, check that both steps give the same, then time them in turns.

    `report` is told each phase. Raise MochiError without diffusers, ResultsDifferError.
    """
    diffusers_transformer()
    report("writing a checkpoint and compiling it")
    checkpoint, bundle = prepare(folder, size, dtype)
    pipeline = Pipeline.open(bundle)
    inputs = make_inputs(pipeline, PRESETS[SIZES[size].preset].dit.caption_width)
    ours, theirs = (
        BundleStep(pipeline, inputs),
        DiffusersStep(read_transformer(checkpoint, dtype), inputs, getattr(torch, dtype)),
    )
    report("comparing the results")
    difference = check_equal(ours(), theirs(), inputs.latents, dtype)
    report("timing")
    times = compare(ours, theirs, repetitions)
    denoise = pipeline.bundle.program("denoise", pipeline.geometry())
    return StepResult(
        size=size,
        dtype=dtype,
        difference=difference,
        times=times,
        flops=denoise.stats.flops,
        instructions=len(denoise.instructions),
        instruction_overhead=instruction_overhead(repetitions),
    )


def prepare(folder: Path, size: str, dtype: str) -> tuple[Path, Path]:
    """Write a checkpoint of `dtype` and compile it for one device; return the paths of checkpoint and bundle."""
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    write_checkpoint(checkpoint, PRESETS[SIZES[size].preset], "diffusers", dtype=getattr(torch, dtype))
    height, width, frames = map(int, str(SIZES[size].step).split("x"))
    job = Job(parse_mesh("1x1"), (Geometry(height, width, frames),), dtype=dtype)
    compile_bundle(open_checkpoint(checkpoint), job, bundle)
    return checkpoint, bundle


def check_equal(ours: np.ndarray, theirs: np.ndarray, latents: np.ndarray, dtype: str) -> float:
    """Return the largest difference of the two updates over the largest value.

    Raise ResultsDifferError above TOLERANCE.
    """
    return check_difference(ours, theirs, latents, TOLERANCE[dtype], "diffusers'")


def check_difference(ours: np.ndarray, theirs: np.ndarray, latents: np.ndarray, tolerance: float, whose: str) -> float:
    """Return the largest difference of two updates of `latents` over the largest value.

    Raise ResultsDifferError above `tolerance`.
    """
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs - latents).max())
    if not difference <= tolerance:
        raise ResultsDifferError(
            f"the bundle's step differs from {whose} by {difference:.2g} relative, expected at most {tolerance:.2g}: "
            "not timed"
        )
    return difference


def step_numbers(result: StepResult) -> dict[str, Any]:
    """Return what `--json` writes of a step. Times are in seconds but where the key says otherwise."""
    return {
        "size": result.size,
        "preset": SIZES[result.size].preset,
        "geometry": SIZES[result.size].step,
        "dtype": result.dtype,
        "difference": result.difference,
        "tolerance": TOLERANCE[result.dtype],
        "bundle": spread(result.times.ours),
        "diffusers": spread(result.times.theirs),
        "ratio": spread(result.times.ratios),
        "flops": result.flops,
        "instructions": result.instructions,
        "instruction_overhead_us": result.instruction_overhead * 1e6,
    }


def step_report(numbers: dict[str, Any]) -> str:
    """Return the same for people."""
    total, overhead = numbers["bundle"]["median"], numbers["instruction_overhead_us"]
    share = numbers["instructions"] * overhead * 1e-6 / total
    return "\n".join(
        [
            machine_line(numbers),
            f"size {numbers['size']} (preset {numbers['preset']}), {numbers['geometry']}, {numbers['dtype']}",
            f"difference of the results {numbers['difference']:.1e}, at most {numbers['tolerance']:.1e} allowed",
            "",
            spread_table("seconds per step", {name: numbers[name] for name in ("bundle", "diffusers", "ratio")}),
            "",
            f"ratio: diffusers over bundle, of {len(numbers['ratio']['all'])} pairs run one after the other",
            f"bundle: {human_count(numbers['flops'] / total, 'FLOP')}/s in {numbers['instructions']} instructions",
            f"runtime's own cost: {overhead:.2f} us per instruction beyond its kernel, {share:.3%} of the step",
        ]
    )
