"""`mochi-run`: a video, or a sweep of videos, from a bundle."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mochi_aot.runtime.defaults import (
    ALIASES,
    DEFAULT_FPS,
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_STEPS,
    DEFAULT_STRENGTH,
    DEFAULT_THRESHOLD_NOISE,
    DEVICES,
    PRESETS,
    dashed,
)
from mochi_aot.tools.commands.cli import MochiCommand, json_option, simulator_option


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> float | tuple[float, ...] | None:
    """Return a number, or the numbers of a list with commas between them."""
    if value is None:
        return None
    try:
        numbers = tuple(map(float, value.split(",")))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number, or numbers with commas between them") from None
    return numbers if "," in value else numbers[0]


def _list(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    numbers = _numbers(context, parameter, value)
    return (numbers,) if isinstance(numbers, float) else numbers


def _option(name: str, **settings: Any) -> Callable[[Any], Any]:
    """Return an option, with the other names that Genmo and diffusers have for it, of which the help tells."""
    aliases = [f"--{alias}" for alias, plain in ALIASES.items() if f"--{plain}" == name]
    if aliases:
        settings["help"] += f" Also {', '.join(aliases)}."

    def decorate(function: Any) -> Any:
        for alias in reversed(aliases):
            function = click.option(alias, **settings | {"hidden": True})(function)
        return click.option(name, **settings)(function)

    return decorate


@click.command(cls=MochiCommand, context_settings={"token_normalize_func": dashed})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="TEXT", help="What the video shows.")
@click.option(
    "--prompt-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A text with a prompt on each line: a video of each, with its number in its name, as out-1.mp4.",
)
@click.option(
    "--num-videos-per-prompt",
    type=int,
    metavar="NUMBER",
    help="So many videos of a prompt, from seeds that count on, with their numbers in their names.",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="fast: 8 steps, of which 6 remove a tenth of the noise along a line, with guidance 1.5; what is given "
    "beside it counts before it.",
)
@click.option("--negative-prompt", metavar="TEXT", help="What it should not show. Default: empty.")
@click.option("--seed", type=int, help="Seed of the starting noise, the same on every target. Default: a random one.")
@_option("--steps", type=int, help=f"Denoising steps. Default: as many as lists have numbers for, or {DEFAULT_STEPS}.")
@_option(
    "--guidance-scale",
    metavar="NUMBER[,NUMBER...]",
    callback=_numbers,
    help="How strongly the prompt steers, away from the negative prompt; at 1 the negative prompt has no effect. Or a "
    f"list of one for each step. Default: {DEFAULT_GUIDANCE_SCALE:g}.",
)
@_option(
    "--sigmas",
    metavar="NUMBER,NUMBER...",
    callback=_list,
    help="A schedule of your own: the share of noise before each step, falling from at most 1, and 0 after the last.",
)
@click.option(
    "--threshold-noise",
    type=float,
    help="Share of the noise, between 0 and 1, that the linear steps remove; the others remove the rest. Default: "
    f"{DEFAULT_THRESHOLD_NOISE}.",
)
@click.option("--linear-steps", type=int, help="Steps of the schedule's linear part. Default: half of the steps.")
@click.option("--fps", type=float, help=f"Frames per second of the mp4. Default: {DEFAULT_FPS:g}.")
@click.option("--geometry", metavar="HxWxF", help="Height, width and frames. Default: the bundle's first.")
@click.option("--height", type=int, help="Height of the geometry to choose, in pixels.")
@click.option("--width", type=int, help="Width of the geometry to choose, in pixels.")
@click.option("--num-frames", type=int, help="Number of frames of the geometry to choose.")
@click.option("-o", "--output", metavar="FILE.mp4", help="The video; a record of the run goes beside it, as FILE.json.")
@click.option(
    "--device",
    type=click.Choice([device for devices in DEVICES.values() for device in devices]),
    help="What the bundle runs on. Default: cpu for the target torch, chips for ttnn. mock is a mesh without hardware, "
    "on which everything happens but the computing: the video is made of zeros. simulator is ttsim, which computes.",
)
@simulator_option
@click.option(
    "--prompt-embeds",
    metavar="FILE",
    help="Encoded prompts instead of --prompt: safetensors with prompt_embeds, prompt_attention_mask and, unless the "
    "negative prompt is to be encoded here, negative_prompt_embeds and negative_prompt_attention_mask.",
)
@click.option("--latents", metavar="FILE", help="Starting noise instead of a seed: safetensors with latents.")
@click.option(
    "--input-video",
    metavar="FILE",
    help="A video to begin with in the place of noise, in any format that ffmpeg reads: scaled and cut at the middle "
    "to the geometry, of which the first frames are taken. The bundle needs the encoder: mochi-compile --with-encoder.",
)
@click.option(
    "--strength",
    type=float,
    help="How far the input video is changed, 0 to 1: so much of the steps is done, the last ones, and the video gets "
    "the noise that they begin with. 0 encodes and decodes it, without a prompt. Default: "
    f"{DEFAULT_STRENGTH:g}.",
)
@click.option(
    "--save-latents",
    metavar="FILE",
    help="Write the denoised latents to this safetensors file; with --strength 0 those of the input video.",
)
@click.option("--save-prompt-embeds", metavar="FILE", help="Write the encoded prompts, for use with --prompt-embeds.")
@click.option("--no-decode", is_flag=True, default=None, help="Stop at the latents; make no video.")
@click.option(
    "--decode-latents",
    metavar="FILE",
    help="Only make the video of denoised latents, as --save-latents writes them, and as a run that is stopped after "
    "denoising leaves them beside its output.",
)
@click.option(
    "--sweep",
    metavar="FILE.jsonl",
    type=click.Path(path_type=Path),
    help="Many jobs: each line is a JSON object of options by their names here, without dashes in front, such as "
    '{"prompt": "a fox", "seed": 7, "output": "fox.mp4"}. A line\'s values override the command line\'s. All lines '
    "are checked before the first job runs.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Go on with the other lines of a sweep after one that fails; the exit code is that of the first failure.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Leave out jobs whose files are all there, the record too; denoised latents that a stopped run left are "
    "decoded. So a sweep that is run again does only what is missing.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--check-values",
    is_flag=True,
    help="Look at what every instruction makes, and name the first that made a number which is not finite. Takes "
    "long. Without it the message names the program.",
)
@click.option(
    "--require-signature",
    metavar="KEYS",
    type=click.Path(path_type=Path),
    help="Run the bundle only if a key in this file has signed it: lines that begin with ssh-ed25519, or PEM.",
)
@click.option(
    "--check/--no-check",
    default=True,
    help="Compare weights with their hashes before they are used; leave it out on a file system that does so itself.",
)
@click.option(
    "--delta",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Run the bundle in another style: a LoRA or a fine-tune, as mochi-bundle delta writes it for this bundle.",
)
@click.option("--expect-id", metavar="ID", help="Run the bundle only if this is its id, as mochi-inspect shows it.")
@click.option(
    "--profile",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="Write what took how long, from the start of the process on: a Chrome trace, for chrome://tracing or "
    "Perfetto, in which the key `ledger` has the numbers that are shown at the end.",
)
@click.option(
    "--launch",
    is_flag=True,
    help="Target torch: start a process for each device of the mesh on this host, instead of simulating the mesh in "
    "one. For several hosts: torchrun ... -m mochi_aot.run BUNDLE ...",
)
@json_option
def main(
    bundle: Path,
    device: str | None,
    sweep: Path | None,
    prompt_file: Path | None,
    num_videos_per_prompt: int | None,
    keep_going: bool,
    skip_existing: bool,
    force: bool,
    check_values: bool,
    require_signature: Path | None,
    expect_id: str | None,
    check: bool,
    profile: Path | None,
    delta: Path | None,
    launch: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a video from the compiled BUNDLE.

    Files appear whole or not at all. Ctrl-C or SIGTERM stops after the current step, a second one at once.
    """
    from mochi_aot.runtime.world import World
    from mochi_aot.tools.commands.console import Console

    if "://" in str(bundle) or re.match(r"[a-z][a-z0-9+.-]+:/[^/]", str(bundle)):
        raise click.UsageError("a bundle runs from a folder here: get it with `mochi-bundle pull URL -o BUNDLE` first")
    if launch:
        from mochi_aot.tools.commands.launching import launch_ranks

        world = launch_ranks(bundle)
    else:
        world = World.from_environment()
    if world is not None and world.rank > 0:
        from mochi_aot.runtime.targets import follow

        sys.exit(follow(bundle, device, world, check, delta))
    with Console() as console:
        console.phase("open the bundle")
        from mochi_aot.tools.commands.running import Settings, run_command

        settings = Settings(
            device,
            sweep,
            force,
            keep_going,
            skip_existing,
            check_values,
            require_signature,
            expect_id,
            check,
            profile,
            as_json,
            delta,
            world,
            prompt_file,
            num_videos_per_prompt,
        )
        run_command(bundle, options, settings, console)


if __name__ == "__main__":
    main()
