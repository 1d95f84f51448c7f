"""mochi-bench: measurements, each a comparison within one process."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.layout import DEFAULT_GEOMETRY, MODEL_DTYPES
from mochi_aot.tools.benchmarks.sizes import COMPILE_SIZES, GPU_SIZES, START_SIZES, STEP_SIZES, TTNN_START_SIZES
from mochi_aot.tools.commands.cli import MochiCommand, MochiGroup, chip_dtype_option, print_json, print_text

MIN_REPETITIONS = 7
QUALITY_MESHES = ("1x1", "1x2", "2x4")
QUALITY_DTYPES = (*MODEL_DTYPES, "float8")
_STDOUT = Path("-")

type Progress = Callable[[str], None]


repetitions_option = click.option(
    "--repetitions",
    type=click.IntRange(min=MIN_REPETITIONS),
    default=MIN_REPETITIONS,
    show_default=True,
    help="Times that each variant runs.",
)
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where checkpoint and bundle are made, kept, and found again. Default: a temporary folder.",
)
json_option = click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value=_STDOUT,
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="[FILE]",
    help="Write all numbers to FILE; without a name, print them instead of the table.",
)


def _with_phases(measure: Callable[..., None]) -> Callable[..., None]:
    """Give a command what begins a phase on the console, which says its first line before anything is imported.

    Numbers that took long to measure are not to be lost for want of a place: that of --json is looked at first.
    """

    @wraps(measure)
    def command(json_file: Path | None, **options: Any) -> None:
        from mochi_aot.runtime.paths import check_writable
        from mochi_aot.tools.commands.console import Console

        with Console() as console:
            console.phase("loading what is measured")
            if json_file not in (None, _STDOUT):
                check_writable(json_file, force=True)
            measure(console.phase, json_file=json_file, **options)

    return command


def _programs_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what says which programs are compiled, without weights."""
    options = (
        click.option("--mesh", metavar="RxC", required=True, help="The device mesh, rows x columns."),
        click.option(
            "--config", metavar="NAME|DIR", default="mochi-1", show_default=True, help="A model, or a checkpoint."
        ),
        click.option("--geometry", metavar="HxWxF", default=DEFAULT_GEOMETRY, show_default=True, help="Of the video."),
        chip_dtype_option("--weights-dtype", "Of the matrices."),
        chip_dtype_option("--links-dtype", "Of what our chips send each other in a denoising step."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _start_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of what is compiled for one device, kept, and started again and again."""
    size = click.option(
        "--size", type=click.Choice(START_SIZES), default="small", show_default=True, help="Of the model."
    )
    return size(repetitions_option(folder_option(command)))


@click.group(cls=MochiGroup)
def main() -> None:
    """Measure, on a machine that does nothing else meanwhile."""


@main.command(cls=MochiCommand)
@click.option("--size", type=click.Choice(STEP_SIZES), default="small", show_default=True, help="Of model and video.")
@click.option(
    "--dtype", type=click.Choice(MODEL_DTYPES), default="float32", show_default=True, help="Of weights and values."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of both sides. Default: as torch chooses.")
@repetitions_option
@json_option
@_with_phases
def step(
    progress: Progress, size: str, dtype: str, threads: int | None, repetitions: int, json_file: Path | None
) -> None:
    """Time one guided denoising step of a bundle against diffusers.

    Writes a checkpoint of seeded weights and compiles it for one device, in a temporary folder. Then the bundle's step
    and the same step with diffusers' transformer run in turns, in one process, on the same weights and threads, after
    both were seen to give the same latents. Also measured: what the runtime adds to each instruction's kernel.
    """
    import torch

    from mochi_aot.tools.benchmarks.step_benchmark import measure_step, step_numbers, step_report

    if threads is not None:
        torch.set_num_threads(threads)
    with _folder(None) as place:
        result = measure_step(place, size, dtype, repetitions, progress)
    _finish("step", step_numbers(result), step_report, json_file)


@main.command(cls=MochiCommand)
@click.option("--size", type=click.Choice(STEP_SIZES), default="middle", show_default=True, help="Of model and video.")
@click.option("--mesh", default="1x2", show_default=True, metavar="RxC", help="The device mesh, a process a device.")
@click.option("--plan", default="auto", show_default=True, metavar="NAME[,NAME...]", help="As mochi-compile has it.")
@repetitions_option
@json_option
@_with_phases
def distributed(progress: Progress, size: str, mesh: str, plan: str, repetitions: int, json_file: Path | None) -> None:
    """Time one guided denoising step of processes on this host against one process that simulates the mesh.

    Writes a checkpoint of seeded weights and compiles it for the mesh. Then both make the same step in turns, once they
    were seen to give the same latents: the simulation with as many threads as each of the processes has, and with all
    cores.
    """
    from mochi_aot.compiler.partition.choose import parse_plan
    from mochi_aot.tools.benchmarks.distributed_benchmark import (
        distributed_numbers,
        distributed_report,
        measure_distributed,
    )

    with _folder(None) as place:
        result = measure_distributed(place, size, mesh, parse_plan(plan), repetitions, progress)
    _finish("distributed", {"size": size, **distributed_numbers(result)}, distributed_report, json_file)


@main.command(cls=MochiCommand)
@click.option("--size", type=click.Choice(GPU_SIZES), default="full", show_default=True, help="Of model and video.")
@click.option(
    "--dtype", type=click.Choice(MODEL_DTYPES), default="bfloat16", show_default=True, help="Of weights and values."
)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="cpu, of the tiny size, tries what a GPU would be measured with.",
)
@click.option(
    "--compiled/--no-compiled",
    default=True,
    show_default=True,
    help="Time diffusers' transformer compiled by torch.compile too; compiling it takes a minute.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Times that each variant runs, where they take no more than 100 seconds.",
)
@folder_option
@json_option
@_with_phases
def gpu(
    progress: Progress,
    size: str,
    dtype: str,
    device: str,
    compiled: bool,
    repetitions: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Time step, decoder and loading on one GPU, against diffusers and against what card, disk and bus can do.

    Makes seeded weights on the GPU, for the programs of a bundle and for diffusers' models alike, and reads nothing;
    the full size wants 64 GB there. Steps and decoders run in turns, in one process, once they were seen to make the
    same; diffusers' transformer as it is and compiled, its decoder whole and tiled. A file in the folder is loaded to
    the GPU from the disk and from the file cache. No network is needed, and no more than 8 minutes on an H100.
    """
    if device == "cpu" and size != "tiny":
        raise click.UsageError("--device cpu wants --size tiny: the other sizes take hours there")
    from mochi_aot.runtime.torch.backend import find_device

    find_device(device)  # before what takes seconds to import
    from mochi_aot.tools.benchmarks.gpu.report import gpu_report
    from mochi_aot.tools.benchmarks.gpu_benchmark import Asked, gpu_numbers, measure_gpu

    with _folder(folder) as place:
        result = measure_gpu(place, Asked(size, dtype, device, compiled, repetitions), progress)
    _finish("gpu", gpu_numbers(result), gpu_report, json_file)


@main.command(cls=MochiCommand)
@_programs_options
@json_option
@_with_phases
def traffic(
    progress: Progress,
    mesh: str,
    config: str,
    geometry: str,
    weights_dtype: str,
    links_dtype: str,
    json_file: Path | None,
) -> None:
    """Count what chips send each other over Ethernet, and model what they would under TT-DiT's scheme.

    Compiles the ttnn programs from a model's configuration, without weights; nothing runs. On 2x4 and 4x8, which TT-DiT
    publishes, the same model is also partitioned as TT-DiT does it.
    """
    from mochi_aot.compiler.from_config import model_config
    from mochi_aot.compiler.partition.mesh import parse_mesh
    from mochi_aot.compiler.reference.geometry import parse_geometry
    from mochi_aot.tools.benchmarks.traffic import our_traffic, their_traffic
    from mochi_aot.tools.benchmarks.traffic_report import traffic_numbers, traffic_report

    shape, size = parse_mesh(mesh), parse_geometry(geometry)
    model = model_config(config)
    progress("compiling the programs")
    programs = our_traffic(model, size, shape, weights_dtype, links_dtype) + their_traffic(model, size, shape)
    settings = {"config": config, "mesh": mesh, "geometry": geometry}
    settings |= {"weights_dtype": weights_dtype, "links_dtype": links_dtype}
    _finish("traffic", {**settings, **traffic_numbers(programs)}, traffic_report, json_file)


@main.command(cls=MochiCommand)
@_programs_options
@json_option
@_with_phases
def model(
    progress: Progress,
    mesh: str,
    config: str,
    geometry: str,
    weights_dtype: str,
    links_dtype: str,
    json_file: Path | None,
) -> None:
    """Model the seconds of a guided step and of a video on chips, beside TT-DiT's scheme by the same model.

    Compiles the ttnn programs from a model's configuration, without weights; nothing runs, and no chip is needed. All
    constants of the model are printed with their sources.
    """
    from mochi_aot.compiler.from_config import model_config
    from mochi_aot.compiler.partition.mesh import parse_mesh
    from mochi_aot.compiler.reference.geometry import parse_geometry
    from mochi_aot.tools.benchmarks.model import our_seconds, their_seconds
    from mochi_aot.tools.benchmarks.model_report import model_numbers, model_report

    shape, size = parse_mesh(mesh), parse_geometry(geometry)
    named = model_config(config)
    progress("compiling the programs")
    ours = our_seconds(named, size, shape, weights_dtype, links_dtype)
    theirs = their_seconds(named, size, shape)
    settings = {"config": config, "mesh": mesh, "geometry": geometry}
    settings |= {"weights_dtype": weights_dtype, "links_dtype": links_dtype}
    _finish("model", {**settings, **model_numbers(shape, ours, theirs)}, model_report, json_file)


@main.command("compile", cls=MochiCommand)
@click.option("--size", type=click.Choice(COMPILE_SIZES), default="middle", show_default=True, help="Of the model.")
@click.option("--mesh", default="2x4", show_default=True, metavar="RxC", help="The device mesh.")
@click.option("--target", type=click.Choice(["torch", "ttnn"]), default="torch", show_default=True)
@chip_dtype_option("--weights-dtype", "Of the matrices.")
@click.option("--repetitions", type=click.IntRange(min=1), default=MIN_REPETITIONS, show_default=True)
@folder_option
@json_option
@_with_phases
def compile_command(
    progress: Progress,
    size: str,
    mesh: str,
    target: str,
    weights_dtype: str,
    repetitions: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Time a compile against `cp` of its checkpoint, and watch its memory.

    Writes a bfloat16 checkpoint of seeded weights, then copies and compiles it in turns, each from a cold page cache
    to the disk. The sizes take 0.01, 0.5, 9 and 70 GB there.
    """
    from mochi_aot.tools.benchmarks.compile_benchmark import measure_compile
    from mochi_aot.tools.benchmarks.compile_report import compile_numbers, compile_report

    with _folder(folder) as place:
        result = measure_compile(place, size, mesh, target, weights_dtype, repetitions, progress)
    settings = {"size": size, "mesh": mesh, "target": target, "weights_dtype": weights_dtype}
    _finish("compile", {**settings, **compile_numbers(result)}, compile_report, json_file)


@main.command(cls=MochiCommand)
@click.option("--size", type=click.Choice(START_SIZES), default="small", show_default=True, help="Of the model.")
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    help=f"Times that each variant runs. Default, and least: {MIN_REPETITIONS}, or 1 for the full size.",
)
@click.option("--check", "only_check", is_flag=True, help="Time the bundle alone, with and without checking weights.")
@folder_option
@json_option
@_with_phases
def start(
    progress: Progress,
    size: str,
    repetitions: int | None,
    only_check: bool,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Time a start on the torch target: from the process's to the weights in use, every byte consumed.

    Writes a checkpoint of seeded weights and compiles it for one device. Then these start in turns, each in a fresh
    process, with their files dropped from the file cache before (cold) or read into it (warm): the bundle, its
    weights checked, and not; diffusers' from_pretrained; safetensors, mapped and read whole; reads that keep
    nothing, which are the limit; and a first denoising step, with weights read while programs run and with all
    weights read first. A cold start counts only if nothing was in the file cache before and the process had its
    bytes from the disk. Before each, memory is touched and given back, so that none waits for memory that a virtual
    machine's host has to find. Where the weights do not fit into memory twice, those that hold them all are left
    out.
    """
    from mochi_aot.tools.benchmarks.start_benchmark import measure_start, start_numbers, start_report

    least = 1 if size == "full" else MIN_REPETITIONS
    if repetitions is None:
        repetitions = least
    if repetitions < least:
        raise click.BadParameter(f"{repetitions}, expected at least {least} of size {size}", param_hint="--repetitions")
    with _folder(folder) as place:
        result = measure_start(place, size, repetitions, progress, only_check)
    _finish("start", start_numbers(result), start_report, json_file)


@main.command("ttnn-start", cls=MochiCommand)
@click.option("--size", type=click.Choice(TTNN_START_SIZES), default="small", show_default=True, help="Of the model.")
@repetitions_option
@folder_option
@json_option
@_with_phases
def ttnn_start(progress: Progress, size: str, repetitions: int, folder: Path | None, json_file: Path | None) -> None:
    """Time the host's part of a start on the ttnn target: from the process's to the first op on a mocked mesh.

    Writes a checkpoint of seeded weights and compiles it for 2x4 chips. Then these start in turns, each in a fresh
    process, with their files in the file cache: the bundle, where torch is not installed; the same text encoder by
    ttnn.from_torch from the checkpoint; and nothing but `import torch`.
    """
    from mochi_aot.tools.benchmarks.ttnn_start_benchmark import (
        measure_ttnn_start,
        ttnn_start_numbers,
        ttnn_start_report,
    )

    with _folder(folder) as place:
        result = measure_ttnn_start(place, size, repetitions, progress)
    _finish("ttnn-start", ttnn_start_numbers(result), ttnn_start_report, json_file)


@main.command(cls=MochiCommand)
@_start_options
@click.option("--jobs", type=click.IntRange(min=1), default=4, show_default=True, help="Videos timed together.")
@json_option
@_with_phases
def serve(
    progress: Progress, size: str, jobs: int, repetitions: int, folder: Path | None, json_file: Path | None
) -> None:
    """Time videos by mochi-serve against the same videos by the Python API, and the first one against mochi-run.

    Writes a checkpoint of seeded weights and compiles it for one device. Then a warm server and a warm process make the
    same videos, in turns; both have the bundle loaded. After that a server and mochi-run start in turns, with the files
    in the file cache, and are timed until their first video is there.
    """
    from mochi_aot.tools.benchmarks.serve_benchmark import measure_serve, serve_numbers, serve_report

    with _folder(folder) as place:
        result = measure_serve(place, size, jobs, repetitions, progress)
    _finish("serve", serve_numbers(result), serve_report, json_file)


@main.command(cls=MochiCommand)
@_start_options
@click.option("--rank", type=click.IntRange(min=1), default=16, show_default=True, help="Of the LoRA.")
@json_option
@_with_phases
def delta(
    progress: Progress, size: str, rank: int, repetitions: int, folder: Path | None, json_file: Path | None
) -> None:
    """Time switching between deltas in one process, against going on and against loading the style's own bundle.

    Writes a checkpoint of seeded weights and two LoRAs of its attention, compiles it without and with each for one
    device, and makes deltas of these. Then one process takes a denoising step of the same style, of the other delta,
    and of a style's bundle that is loaded for it, in turns, with the files in the file cache.
    """
    from mochi_aot.tools.benchmarks.delta_benchmark import delta_numbers, delta_report, measure_delta

    with _folder(folder) as place:
        result = measure_delta(place, size, rank, repetitions, progress)
    _finish("delta", delta_numbers(result), delta_report, json_file)


@main.command(cls=MochiCommand)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Default: the trained model of the package.")
@click.option("--text-encoder", type=click.Path(path_type=Path), help="T5 and its tokenizer, as mochi-compile has it.")
@click.option("--prompts", "file", type=click.Path(path_type=Path, exists=True), help="A file of prompts, one a line.")
@click.option(
    "--count", type=click.IntRange(min=1), default=64, show_default=True, help="Held-out prompts, if no file."
)
@click.option("--mesh", "meshes", multiple=True, default=QUALITY_MESHES, show_default=True, metavar="RxC")
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(QUALITY_DTYPES),
    multiple=True,
    default=QUALITY_DTYPES,
    show_default=True,
    help="Of weights and activations; float8 is of the matrices of the transformer's blocks, beside bfloat16.",
)
@click.option(
    "--bundle", "bundles", type=click.Path(path_type=Path), multiple=True, help="Also this one, of any target."
)
@click.option("--geometry", metavar="HxWxF", default="64x96x19", show_default=True, help="Of the video.")
@click.option("--steps", type=click.IntRange(min=1), default=24, show_default=True, help="Of denoising.")
@click.option("--guidance-scale", "scale", type=float, default=3.0, show_default=True)
@folder_option
@json_option
@_with_phases
def quality(
    progress: Progress,
    checkpoint: Path | None,
    text_encoder: Path | None,
    file: Path | None,
    count: int,
    meshes: tuple[str, ...],
    dtypes: tuple[str, ...],
    bundles: tuple[Path, ...],
    geometry: str,
    steps: int,
    scale: float,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure what meshes and dtypes cost in quality: PSNR and SSIM against float32 on one device, at equal seeds.

    Compiles a checkpoint for the torch target, once for each mesh and dtype, and makes the same videos by each. Of the
    trained model that comes with the package it is also measured whether the videos show what held-out prompts say. For
    a checkpoint of your own give prompts of your own; --bundle compares bundles of it that are there, also on chips.
    """
    from mochi_aot.compiler.reference.geometry import parse_geometry
    from mochi_aot.tools.benchmarks.quality import Sampling, asked_prompts, measure_quality, quality_numbers
    from mochi_aot.tools.benchmarks.quality_report import quality_report
    from mochi_aot.tools.training.shipped import SHAPES

    if checkpoint is not None and file is None:
        raise click.UsageError("--checkpoint wants --prompts FILE: nothing is known of what other prompts should show")
    asked, sampling = asked_prompts(file, count), Sampling(parse_geometry(geometry), steps, scale)
    variants = [(mesh, dtype) for mesh in meshes for dtype in dtypes if (mesh, dtype) != ("1x1", "float32")]
    with _folder(folder) as place:
        paths = measure_quality(place, checkpoint or SHAPES, text_encoder, asked, sampling, variants, bundles, progress)
    _finish("quality", quality_numbers(paths, asked, sampling), quality_report, json_file)


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """Yield the chosen folder, or one that is removed in the end."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="mochi-bench-") as folder:
        yield Path(folder)


def _finish(
    name: str, results: dict[str, Any], report: Callable[[dict[str, Any]], str], json_file: Path | None
) -> None:
    import json

    import torch

    from mochi_aot.tools.benchmarks.machine import describe_machine

    numbers = {"benchmark": name, "machine": describe_machine(torch.get_num_threads()), **results}
    if json_file == _STDOUT:
        print_json(numbers)
        return
    if json_file is not None:
        with replacing(json_file) as new:
            new.write_text(json.dumps(numbers, indent=2) + "\n")
    print_text(report(numbers))


if __name__ == "__main__":
    main()
