"""mochi-bench: measurements, each a comparison within one process."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mochi_aot.tools.cli import MochiCommand
from mochi_aot.tools.text import human_count, table

if TYPE_CHECKING:
    from mochi_aot.tools.step_benchmark import StepResult

SIZES = ("tiny", "small")
DTYPES = ("float32", "bfloat16")
MIN_REPETITIONS = 7


@click.group()
def main() -> None:
    """Measure, on a machine that does nothing else meanwhile."""


@main.command(cls=MochiCommand)
@click.option("--size", type=click.Choice(SIZES), default="small", show_default=True, help="Of model and video.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Of weights and values.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of both sides. Default: as torch chooses.")
@click.option(
    "--repetitions",
    type=click.IntRange(min=MIN_REPETITIONS),
    default=MIN_REPETITIONS,
    show_default=True,
    help="Times that each side runs.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all numbers there.")
def step(size: str, dtype: str, threads: int | None, repetitions: int, json_file: Path | None) -> None:
    """Time one guided denoising step of a bundle against diffusers.

    Writes a checkpoint of seeded weights and compiles it for one device, in a temporary folder. Then the bundle's step
    and the same step with diffusers' transformer run in turns, in one process, on the same weights and threads, after
    both were seen to give the same latents. Also measured: what the runtime adds to each instruction's kernel.
    """
    import torch

    from mochi_aot.tools.machine import describe_machine
    from mochi_aot.tools.step_benchmark import measure_step

    if threads is not None:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="mochi-bench-") as folder:
        result = measure_step(Path(folder), size, dtype, repetitions, lambda phase: click.echo(phase, err=True))
    numbers = {"benchmark": "step", "machine": describe_machine(torch.get_num_threads()), **step_numbers(result)}
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")
    click.echo(step_report(numbers))


@main.command(cls=MochiCommand)
@click.option("--mesh", metavar="RxC", required=True, help="The device mesh, rows x columns.")
@click.option("--config", metavar="NAME|DIR", default="mochi-1", show_default=True, help="A model, or a checkpoint.")
@click.option("--geometry", metavar="HxWxF", default="480x848x163", show_default=True, help="Of the video.")
@click.option(
    "--weights-dtype",
    type=click.Choice(["bfloat16", "bfloat8_b"]),
    default="bfloat16",
    show_default=True,
    help="Of the matrices.",
)
@click.option(
    "--links-dtype",
    type=click.Choice(["bfloat16", "bfloat8_b"]),
    default="bfloat16",
    show_default=True,
    help="Of what our chips send each other in a denoising step.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all numbers there.")
def traffic(
    mesh: str, config: str, geometry: str, weights_dtype: str, links_dtype: str, json_file: Path | None
) -> None:
    """Count what chips send each other over Ethernet, and model what they would under TT-DiT's scheme.

    Compiles the ttnn programs from a model's configuration, without weights; nothing runs. On 2x4 and 4x8, which TT-DiT
    publishes, the same model is also partitioned as TT-DiT does it.
    """
    from mochi_aot.compiler.partition.mesh import parse_mesh
    from mochi_aot.tools.compiling import parse_geometry
    from mochi_aot.tools.configured import model_config
    from mochi_aot.tools.traffic import our_traffic, their_traffic
    from mochi_aot.tools.traffic_report import traffic_numbers, traffic_report

    shape, size = parse_mesh(mesh), parse_geometry(geometry)
    model = model_config(config)
    programs = our_traffic(model, size, shape, weights_dtype, links_dtype) + their_traffic(model, size, shape)
    numbers = {
        "benchmark": "traffic",
        "config": config,
        "mesh": mesh,
        "geometry": geometry,
        "weights_dtype": weights_dtype,
        "links_dtype": links_dtype,
        **traffic_numbers(programs),
    }
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")
    click.echo(traffic_report(numbers))


def step_numbers(result: "StepResult") -> dict[str, Any]:
    """What `--json` writes of a step. Times are in seconds but where the key says otherwise."""
    from mochi_aot.tools.timing import spread

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


COMPILE_SIZES = ("tiny", "small", "middle", "full")


@main.command("compile", cls=MochiCommand)
@click.option("--size", type=click.Choice(COMPILE_SIZES), default="middle", show_default=True, help="Of the model.")
@click.option("--mesh", default="2x4", show_default=True, metavar="RxC", help="The device mesh.")
@click.option("--target", type=click.Choice(["torch", "ttnn"]), default="torch", show_default=True)
@click.option("--weights-dtype", type=click.Choice(["bfloat16", "bfloat8_b"]), default="bfloat16", show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=MIN_REPETITIONS, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all numbers there.")
def compile_command(
    size: str, mesh: str, target: str, weights_dtype: str, repetitions: int, json_file: Path | None
) -> None:
    """Time a compile against `cp` of its checkpoint, and watch its memory.

    Writes a bfloat16 checkpoint of seeded weights to a temporary folder ($TMPDIR), then copies and compiles it in
    turns, each from a cold page cache to the disk. The sizes take 0.01, 0.5, 9 and 70 GB there.
    """
    import torch

    from mochi_aot.tools.compile_benchmark import measure_compile
    from mochi_aot.tools.compile_report import compile_numbers, compile_report
    from mochi_aot.tools.machine import describe_machine

    with tempfile.TemporaryDirectory(prefix="mochi-bench-") as folder:
        result = measure_compile(
            Path(folder), size, mesh, target, weights_dtype, repetitions, lambda phase: click.echo(phase, err=True)
        )
    settings = {"size": size, "mesh": mesh, "target": target, "weights_dtype": weights_dtype}
    machine = describe_machine(torch.get_num_threads())
    numbers = {"benchmark": "compile", "machine": machine, **settings, **compile_numbers(result)}
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")
    click.echo(compile_report(numbers))


if __name__ == "__main__":
    main()
