"""mochi-checkpoint: writes a checkpoint of seeded weights, for tests, demos and benchmarks."""

import sys
from pathlib import Path

import click

from mochi_aot.tools.commands.cli import MochiCommand

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
def main(out: Path, preset: str, layout: str, seed: int, dtype: str, force: bool) -> None:
    """Write a Mochi checkpoint with seeded weights and a tokenizer to folder OUT.

    The same preset and seed give the same model in either layout.
    """
    import torch

    from mochi_aot.compiler.checkpoint.presets import PRESETS
    from mochi_aot.compiler.checkpoint.synthetic import checkpoint_bytes, write_checkpoint

    config, torch_dtype = PRESETS[preset], getattr(torch, dtype)
    total = checkpoint_bytes(config, layout, torch_dtype)
    with click.progressbar(length=total, label="writing", file=sys.stderr) as bar:
        write_checkpoint(out, config, layout, seed, torch_dtype, replace=force, progress=bar.update)
    click.echo(f"{out}: {preset}, {layout} layout, seed {seed}, {dtype}, {total / 1e9:.3f} GB of weights")


if __name__ == "__main__":
    main()
