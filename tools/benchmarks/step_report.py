"""What `mochi-bench step` says: numbers for `--json`, and the same for people."""

from typing import Any

from mochi_aot.tools.benchmarks.step_benchmark import StepResult
from mochi_aot.tools.benchmarks.timing import spread
from mochi_aot.tools.commands.text import human_count, table


def step_numbers(result: StepResult) -> dict[str, Any]:
    """What `--json` writes of a step. Times are in seconds but where the key says otherwise."""
    return {
        "size": result.size,
        "preset": result.preset,
        "geometry": result.geometry,
        "dtype": result.dtype,
        "difference": result.difference,
        "tolerance": result.tolerance,
        "bundle": spread(result.times.ours),
        "diffusers": spread(result.times.theirs),
        "ratio": spread(result.times.ratios),
        "flops": result.flops,
        "instructions": result.instructions,
        "instruction_overhead_us": result.instruction_overhead * 1e6,
    }


def step_report(numbers: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        [name, *(f"{numbers[name][key]:.3f}" for key in ("median", "low", "high"))]
        for name in ("bundle", "diffusers", "ratio")
    ]
    total, overhead = numbers["bundle"]["median"], numbers["instruction_overhead_us"]
    share = numbers["instructions"] * overhead * 1e-6 / total
    return "\n".join(
        [
            ", ".join(f"{key} {value}" for key, value in numbers["machine"].items()),
            f"size {numbers['size']} (preset {numbers['preset']}), {numbers['geometry']}, {numbers['dtype']}",
            f"difference of the results {numbers['difference']:.1e}, at most {numbers['tolerance']:.1e} allowed",
            "",
            table(["seconds a step", "median", "lowest", "highest"], rows),
            "",
            f"ratio: diffusers over bundle, of {len(numbers['ratio']['all'])} pairs run one after the other",
            f"bundle: {human_count(numbers['flops'] / total, 'FLOP')}/s in {numbers['instructions']} instructions",
            f"runtime's own cost: {overhead:.2f} us an instruction beyond its kernel, {share:.3%} of the step",
        ]
    )
