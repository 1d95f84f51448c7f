"""`mochi-compile`: a checkpoint in, a bundle out."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mochi_aot.artifacts.layout import CHECKPOINT_LAYOUTS, DEFAULT_GEOMETRY, MODEL_DTYPES, WEIGHTS_DTYPES
from mochi_aot.artifacts.timeline import process_seconds
from mochi_aot.tools.commands.cli import (
    MochiCommand,
    arch_option,
    chip_dtype_option,
    json_option,
    lora_option,
    print_json,
    print_text,
)

if TYPE_CHECKING:
    from mochi_aot.compiler.job import Progress


INPUTS = ("text_encoder", "transformer", "vae", "tokenizer", "layout", "variant", "revision")  # beside the checkpoint


def _path_option(name: str, metavar: str, text: str) -> Callable[[Any], Any]:
    """Return an option that names a part of what is read, which the compiler looks at."""
    return click.option(name, type=click.Path(), metavar=metavar, help=text)  # or a name on the hub


@click.command(cls=MochiCommand)
@click.option(
    "--checkpoint",
    envvar="MOCHI_CHECKPOINT",
    metavar="PATH|ID",
    help="Folder of the checkpoint, in Genmo's or Diffusers' layout; a file that holds all networks; or a repository "
    "of the Hugging Face hub, as genmo/mochi-1-preview, of which the files that are needed are fetched."
    "  [default: $MOCHI_CHECKPOINT]",
)
@click.option("--revision", help="Branch, tag or commit of the repository.  [default: main]")
@click.option(
    "--layout",
    type=click.Choice(CHECKPOINT_LAYOUTS),
    help="Which of the two to take where a folder or a repository holds both.  [default: diffusers, if it is whole]",
)
@click.option(
    "--variant",
    help="Which weights to take in Diffusers' layout where there are several: bf16, as in model.bf16.safetensors."
    "  [default: those without one, if they are whole]",
)
@_path_option(
    "--transformer",
    "FILE|DIR|ID",
    "The transformer, instead of the checkpoint's: a file, safetensors or GGUF, in Genmo's keys, with or without "
    "ComfyUI's prefixes, or in Diffusers'; or a folder in Diffusers' layout; or either of the "
    "hub, as OWNER/NAME/PATH@REVISION.",
)
@_path_option(
    "--vae", "FILE|DIR|ID", "The VAE, instead of the checkpoint's: as --transformer. The encoder may be missing."
)
@_path_option(
    "--text-encoder",
    "DIR|FILE|ID",
    "T5, instead of the checkpoint's, or for Genmo's layout, which has none: its folder with its tokenizer, or a file.",
)
@_path_option(
    "--tokenizer",
    "DIR|ID",
    "Folder with T5's tokenizer.json or spiece.model, where it is not beside T5 or in the checkpoint.",
)
@lora_option("Merge a LoRA into the weights")
@click.option("--mesh", metavar="RxC", help="The device mesh: rows x columns.  [default: of the machine in --arch]")
@arch_option
@click.option(
    "--target",
    type=click.Choice(["ttnn", "torch"]),
    default="ttnn",
    show_default=True,
    help="What runs the bundle: Tenstorrent chips, or torch on this host, for checking.",
)
@click.option(
    "--geometry",
    "geometries",
    multiple=True,
    default=[DEFAULT_GEOMETRY],
    show_default=True,
    metavar="HxWxF",
    help="Video height, width and frames. Repeat it for several in one bundle; they share the weights.",
)
@click.option(
    "--plan",
    default="auto",
    show_default=True,
    help="How programs are cut over the mesh: auto, or plan names separated by commas (sp1tp0,h0w1). "
    "Programs that no name is for choose for themselves.",
)
@click.option(
    "--dtype",
    type=click.Choice(MODEL_DTYPES),
    default="bfloat16",
    show_default=True,
    help="Of weights and activations; float32 is for torch only.",
)
@click.option(
    "--text-dtype",
    type=click.Choice(MODEL_DTYPES),
    help="Of T5's weights and activations, for torch; its results are rounded to --dtype.  [default: --dtype]",
)
@chip_dtype_option(
    "--weights-dtype",
    "Of the matrices: about half the memory in bfloat8_b, for ttnn, or in float8, for torch and the denoising step.",
    WEIGHTS_DTYPES,
)
@chip_dtype_option(
    "--links-dtype", "Of what chips send each other in a denoising step, for ttnn; bfloat8_b is about half the bytes."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the bundle.  [default: the checkpoint's, with .bundle appended]",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option(
    "--resume",
    is_flag=True,
    help="Use the weights that a compile to the same place finished before it was stopped, if neither they nor the "
    "checkpoint have changed, and keep what this one finishes if it is stopped too. Without this option both are "
    "removed.",
)
@click.option(
    "--reuse",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Share the weights of a bundle of the same checkpoint, mesh and plan instead of making them again, as for "
    "another geometry: files are linked, or copied where the file system has no links. May be the one that --force "
    "replaces. All of the checkpoint is read and hashed to tell it from another.",
)
@click.option(
    "--trust-times",
    is_flag=True,
    help="With --reuse or --resume: files of the checkpoint that an earlier compile of this user has read are not read "
    "again to tell what they are, if their size, inode and times are the same.",
)
@click.option(
    "--check-weights/--no-check-weights",
    default=True,
    show_default=True,
    help="Whether a weight that is not a finite number ends the compile. Weights are looked at while they are read.",
)
@click.option(
    "--require-kernels",
    is_flag=True,
    help="Refuse to compile for ttnn where only stand-in kernels can be built, which chips cannot use.",
)
@click.option(
    "--with-encoder",
    is_flag=True,
    help="Put the VAE's encoder into the bundle, which mochi-run --input-video needs, and nothing else does.",
)
@click.option(
    "--print-ir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write each program's text after each pass to this folder; --force replaces the texts that are there.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write what each phase, pass and program took, as a Chrome trace.",
)
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="Print the plans that would be considered, with modelled seconds, bytes sent and memory and why each lost. "
    "Nothing is compiled or written.",
)
@json_option
def main(checkpoint: str | None, output: Path | None, as_json: bool, explained: bool, **options: Any) -> None:
    """Compile a Mochi 1 checkpoint into an artifact bundle for a mesh of devices."""
    if checkpoint is None and options["transformer"] is None:
        raise click.UsageError("no checkpoint: give --checkpoint, or --transformer, --vae and --text-encoder")
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        console.phase("loading the compiler")
        from mochi_aot.compiler.api import compile, default_output
        from mochi_aot.compiler.errors import CompileOptionError
        from mochi_aot.tools.commands.compiling import Terminal, report

        try:
            if explained:
                _explain(checkpoint, Terminal(console), as_json, options)
                return
            output = output or default_output(checkpoint or options["transformer"])
            summary = compile(checkpoint, output=output, progress=Terminal(console), own_process=False, **options)
        except CompileOptionError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json({"bundle": str(output), **asdict(summary), "seconds": process_seconds()})
    else:
        print_text(report(summary, output))


def _explain(checkpoint: str | None, progress: "Progress", as_json: bool, options: dict[str, Any]) -> None:
    """Print the plans that these options would have considered."""
    from mochi_aot.runtime.cache import ensure_temporary_files

    ensure_temporary_files()  # before torch is imported
    from mochi_aot.compiler.api import make_inputs, make_job
    from mochi_aot.compiler.explain import explain
    from mochi_aot.compiler.lora.choice import parse_lora
    from mochi_aot.compiler.request import open_inputs, with_loras
    from mochi_aot.tools.commands.plan_report import plan_numbers, plan_report

    names = ("mesh", "arch", "geometries", "plan", "dtype", "target", "weights_dtype", "links_dtype", "with_encoder")
    job = make_job(**{name: options[name] for name in (*names, "text_dtype")})
    inputs = make_inputs(checkpoint, **{name: options[name] for name in INPUTS})
    choices = [parse_lora(lora) for lora in options["loras"]]
    source = open_inputs(inputs, progress, options["check_weights"])
    explanation = explain(with_loras(source, choices, options["check_weights"]) or source, job, progress)
    if as_json:
        print_json(plan_numbers(explanation))
    else:
        print_text(plan_report(explanation))


if __name__ == "__main__":
    main()
