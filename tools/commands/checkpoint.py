"""mochi-checkpoint: writes a checkpoint of seeded weights, for tests, demos and benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.tools.commands.cli import MochiCommand, json_option, print_json

if TYPE_CHECKING:
    from mochi_aot.tools.commands.console import Console

PRESET_NAMES = ("tiny", "bench", "middle", "mochi-1")
LAYOUTS = ("diffusers", "genmo")
DTYPES = ("float32", "bfloat16")


@click.command(cls=MochiCommand)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--preset", type=click.Choice(PRESET_NAMES), default="tiny", show_default=True, help="Size of the model.")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True, help="Whose layout.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal weights.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="How to store it.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that is already at OUT.")
@json_option
def main(out: Path, preset: str, layout: str, seed: int, dtype: str, force: bool, as_json: bool) -> None:
    """Write a Mochi checkpoint with seeded weights and a tokenizer to folder OUT.

    The same preset and seed give the same model in either layout.
    """
    from mochi_aot.tools.commands.console import Console

    with Console() as console:
        console.phase("writing the checkpoint")
        total = _write(console, out, preset, layout, seed, dtype, force)
    if as_json:
        made = {"checkpoint": str(out), "preset": preset, "layout": layout, "seed": seed, "dtype": dtype}
        print_json({**made, "weight_bytes": total})
        return
    click.echo(f"{out}: {preset}, {layout} layout, seed {seed}, {dtype}, {total / 1e9:.3f} GB of weights")


def _write(console: "Console", out: Path, preset: str, layout: str, seed: int, dtype: str, force: bool) -> int:
    """Write the checkpoint, and return the bytes of its weights."""
    import torch

    from mochi_aot.compiler.checkpoint.presets import PRESETS
    from mochi_aot.compiler.checkpoint.synthetic import checkpoint_bytes, write_checkpoint

    config, torch_dtype = PRESETS[preset], getattr(torch, dtype)
    total, done = checkpoint_bytes(config, layout, torch_dtype), 0

    def progress(written: int) -> None:
        nonlocal done
        done += written
        console.update(done, total, "bytes")

    write_checkpoint(out, config, layout, seed, torch_dtype, replace=force, progress=progress)
    return total


if __name__ == "__main__":
    main()
