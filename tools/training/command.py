"""mochi-train: trains a Mochi of a few million parameters on clips that code draws."""

import json
import time
from pathlib import Path

import click

from mochi_aot.tools.commands.cli import MochiCommand, MochiGroup
from mochi_aot.tools.training.grammar import COLOURS, MOTIONS, SHAPES

MODELS = ("small", "tiniest")
STEPS, GUIDANCE_SCALE = 24, 3.0  # as evaluate.py has them
LAYOUTS = ("diffusers", "genmo")
folder_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, or cuda.")

steps_option = click.option(
    "--steps", type=click.IntRange(min=1), default=STEPS, show_default=True, help="Of denoising."
)
scale_option = click.option("--guidance-scale", "scale", type=float, default=GUIDANCE_SCALE, show_default=True)


@click.group(cls=MochiGroup)
def main() -> None:
    """Train a small Mochi on synthetic clips, measure it, and write it as a checkpoint."""


@main.command(cls=MochiCommand)
@folder_argument
@click.option("--model", type=click.Choice(MODELS), default=MODELS[0], show_default=True, help="Size of the networks.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, clips and noise.")
@click.option("--vae-steps", type=click.IntRange(min=1), help="Steps of the first stage.")
@click.option("--dit-steps", type=click.IntRange(min=1), help="Steps of the second stage.")
@click.option("--vae-batch", type=click.IntRange(min=1), help="Clips of a step of the first stage.")
@click.option("--dit-batch", type=click.IntRange(min=1), help="Clips of a step of the second stage.")
@click.option("--bfloat16", is_flag=True, help="Matrix products and convolutions in bfloat16.")
@click.option("--compiled", is_flag=True, help="Compile the losses with torch.compile.")
@click.option("--log-every", type=click.IntRange(min=1), default=100, show_default=True, help="Steps.")
@click.option("--save-every", type=click.IntRange(min=1), default=2000, show_default=True, help="Steps.")
@click.option("--sample-every", type=click.IntRange(min=1), default=2000, show_default=True, help="Steps.")
@click.option("--minutes", type=click.FloatRange(min=0.0), help="Save and stop after so long, to go on later.")
@device_option
def run(
    folder: Path,
    model: str,
    seed: int,
    vae_steps: int | None,
    dit_steps: int | None,
    vae_batch: int | None,
    dit_batch: int | None,
    bfloat16: bool,
    compiled: bool,
    log_every: int,
    save_every: int,
    sample_every: int,
    minutes: float | None,
    device: str,
) -> None:
    """Train in FOLDER: first the VAE, then text encoder and transformer. Run again, it goes on where it stopped."""
    from mochi_aot.tools.training.loop import Pace
    from mochi_aot.tools.training.run import Hardware, changed, train
    from mochi_aot.tools.training.settings import Settings

    settings = changed(
        Settings(model=model, seed=seed, bfloat16=bfloat16),
        vae={"steps": vae_steps, "batch": vae_batch},
        dit={"steps": dit_steps, "batch": dit_batch},
    )
    deadline = None if minutes is None else time.monotonic() + 60.0 * minutes
    train(folder, settings, Hardware(device, compiled), Pace(log_every, save_every, sample_every, deadline))


@main.command(cls=MochiCommand)
@folder_argument
@click.option("--prompts", type=click.IntRange(min=1), default=64, show_default=True, help="Held-out prompts.")
@click.option("--clips", type=click.IntRange(min=1), default=32, show_default=True, help="Clips through the VAE.")
@click.option("--steps", type=click.IntRange(min=1), multiple=True, default=(STEPS,), show_default=True)
@click.option("--guidance-scale", "scales", type=float, multiple=True, default=(GUIDANCE_SCALE,), show_default=True)
@click.option("--geometry", metavar="HxWxF", default="64x96x19", show_default=True, help="Of the videos.")
@click.option("--lora", type=click.Path(path_type=Path, exists=True), help="Add this LoRA, as `tune` writes it.")
@click.option("--sheet", type=click.Path(path_type=Path), metavar="PNG", help="Write frames of the videos there.")
@device_option
def evaluate(
    folder: Path,
    prompts: int,
    clips: int,
    steps: tuple[int, ...],
    scales: tuple[float, ...],
    geometry: str,
    lora: Path | None,
    sheet: Path | None,
    device: str,
) -> None:
    """Measure the model in FOLDER, a training run or a checkpoint, and print JSON lines."""
    from mochi_aot.compiler.reference.geometry import parse_geometry
    from mochi_aot.tools.training.evaluate import accuracy, commonest, generate, held_out_prompts, reconstruction_psnr
    from mochi_aot.tools.training.export import open_models
    from mochi_aot.tools.training.lora import merge_lora
    from mochi_aot.tools.training.picture import frame_sheet, write_png

    size, models = parse_geometry(geometry), open_models(folder, device)
    if lora is not None:
        merge_lora(models.dit, models.config, lora)
    click.echo(json.dumps({"clips": clips, "psnr": round(reconstruction_psnr(models, clips), 3)}))
    asked = held_out_prompts(prompts)
    for count in steps:
        for scale in scales:
            videos = generate(models, asked, count, scale, size)
            shares = {name: round(value, 4) for name, value in accuracy(asked, videos).items()}
            settings = {"prompts": prompts, "steps": count, "guidance_scale": scale}
            click.echo(json.dumps({**settings, **shares, "commonest": commonest(videos)}))
    if sheet is not None:
        write_png(sheet, frame_sheet(videos[:16], 7, 2))


@main.command(cls=MochiCommand)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@folder_argument
@click.option("--colour", type=click.Choice(tuple(COLOURS)), help="What every shape is to have.")
@click.option("--shape", type=click.Choice(SHAPES), help="What everything is to be.")
@click.option("--motion", type=click.Choice(MOTIONS), help="What everything is to do.")
@click.option("--lora", type=click.IntRange(min=1), metavar="RANK", help="Train a LoRA, and not all weights.")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Of training.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Clips of a step.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of clips and noise.")
@device_option
def tune(
    checkpoint: Path,
    folder: Path,
    colour: str | None,
    shape: str | None,
    motion: str | None,
    lora: int | None,
    steps: int,
    batch: int,
    seed: int,
    device: str,
) -> None:
    """Fine-tune CHECKPOINT, or a training run, in FOLDER: one colour, shape or motion, whatever captions say."""
    from mochi_aot.tools.training.export import open_models
    from mochi_aot.tools.training.loop import Pace
    from mochi_aot.tools.training.tune import Tuning
    from mochi_aot.tools.training.tune import tune as fine_tune

    named = {"colour": colour, "shape": shape, "motion": motion}
    always = {name: value for name, value in named.items() if value is not None}
    if not always:
        raise click.UsageError("nothing to learn: name a --colour, a --shape or a --motion")
    tuning = Tuning(always, lora, steps, batch, seed=seed)
    click.echo(fine_tune(open_models(checkpoint, device), folder, tuning, Pace(log=20, save=100, sample=steps + 1)))


@main.command(cls=MochiCommand)
@folder_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--prompts", type=click.IntRange(min=1), default=128, show_default=True, help="Held-out prompts.")
@click.option("--clips", type=click.IntRange(min=1), default=48, show_default=True, help="Clips through the VAE.")
@steps_option
@scale_option
@click.option("--sheet", type=click.Path(path_type=Path), metavar="PNG", help="Write frames of several videos there.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that is already at OUT.")
def release(
    folder: Path, out: Path, prompts: int, clips: int, steps: int, scale: float, sheet: Path | None, force: bool
) -> None:
    """Write the model of the training run in FOLDER to OUT, in Genmo's layout, with a card of what is measured."""
    from mochi_aot.tools.training.export import open_models
    from mochi_aot.tools.training.picture import write_png
    from mochi_aot.tools.training.release import contact_sheet
    from mochi_aot.tools.training.release import release as write_release
    from mochi_aot.tools.training.run import SETTINGS
    from mochi_aot.tools.training.settings import Settings

    settings = Settings.read(folder / SETTINGS)
    measured = write_release(open_models(folder, "cpu"), settings, out, prompts, clips, steps, scale, force)
    click.echo(json.dumps(measured))
    if sheet is not None:
        write_png(sheet, contact_sheet(open_models(out, "cpu"), steps, scale))


@main.command(cls=MochiCommand)
@folder_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True, help="Whose layout.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that is already at OUT.")
def export(folder: Path, out: Path, layout: str, force: bool) -> None:
    """Write the model in FOLDER, a training run or a checkpoint, as a checkpoint to OUT, in bfloat16."""
    from mochi_aot.tools.training.export import open_models, write_models

    write_models(open_models(folder, "cpu"), out, layout, force)
    click.echo(f"{out}: {layout} layout")
