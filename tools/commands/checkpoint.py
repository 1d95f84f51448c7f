"""mochi-checkpoint: writes a checkpoint, trained or of seeded weights, for tests, demos and benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mochi_aot.artifacts.layout import MODEL_DTYPES
from mochi_aot.tools.commands.cli import MochiCommand, json_option, print_json, print_text

if TYPE_CHECKING:
    from mochi_aot.tools.commands.console import Console

PRESET_NAMES = ("tiny", "bench", "middle", "mochi-1")
LAYOUTS = ("diffusers", "genmo")


@click.command(cls=MochiCommand)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--trained", is_flag=True, help="The small trained model that comes with the package; see docs/training.md."
)
@click.option("--preset", type=click.Choice(PRESET_NAMES), help="Size of the model with seeded weights. Default: tiny.")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True, help="Whose layout.")
@click.option("--seed", type=click.IntRange(min=0), help="Equal seeds, equal weights. Default: 0.")
@click.option(
    "--dtype", type=click.Choice(MODEL_DTYPES), help="How to store it. Default: float32; if trained, bfloat16."
)
@click.option("--force", is_flag=True, help="Replace a checkpoint that is already at OUT.")
@json_option
def main(
    out: Path,
    trained: bool,
    preset: str | None,
    layout: str,
    seed: int | None,
    dtype: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a Mochi checkpoint with a tokenizer to folder OUT: seeded weights, or those that are trained.

    The same preset and seed give the same model in either layout.
    """
    from mochi_aot.tools.commands.console import Console

    if trained and (preset is not None or seed is not None):
        raise click.UsageError("--trained is one model: leave out --preset and --seed")
    made: dict[str, str | int]
    with Console() as console:
        console.phase("writing the checkpoint")
        if trained:
            made = {"preset": "trained", "layout": layout, "dtype": dtype or "bfloat16"}
            total = _write_trained(console, out, layout, str(made["dtype"]), force)
        else:
            made = {
                "preset": preset or PRESET_NAMES[0],
                "layout": layout,
                "seed": seed or 0,
                "dtype": dtype or MODEL_DTYPES[0],
            }
            total = _write_seeded(console, out, made, force)
    if as_json:
        print_json({"checkpoint": str(out), **made, "weight_bytes": total})
        return
    known = f"seed {made['seed']}, " if "seed" in made else ""
    print_text(f"{out}: {made['preset']}, {layout} layout, {known}{made['dtype']}, {total / 1e9:.3f} GB of weights")


def _write_seeded(console: "Console", out: Path, made: dict[str, str | int], force: bool) -> int:
    """Write the checkpoint, and return the bytes of its weights."""
    import torch

    from mochi_aot.compiler.checkpoint.presets import PRESETS
    from mochi_aot.compiler.checkpoint.synthetic import checkpoint_bytes, write_checkpoint

    config, torch_dtype, layout = PRESETS[str(made["preset"])], getattr(torch, str(made["dtype"])), str(made["layout"])
    total = checkpoint_bytes(config, layout, torch_dtype)
    progress = _counted(console, total)
    write_checkpoint(out, config, layout, int(made["seed"]), torch_dtype, replace=force, progress=progress)
    return total


def _write_trained(console: "Console", out: Path, layout: str, dtype: str, force: bool) -> int:
    """Write the checkpoint that comes with the package, and return the bytes of its weights."""
    import torch

    from mochi_aot.tools.training.shipped import shapes_bytes, write_shapes

    torch_dtype = getattr(torch, dtype)
    total = shapes_bytes(layout, torch_dtype)
    write_shapes(out, layout, torch_dtype, force, _counted(console, total))
    return total


def _counted(console: "Console", total: int) -> Callable[[int], None]:
    """Return what is told the bytes of each tensor, and shows how many of `total` are done."""
    done = 0

    def progress(written: int) -> None:
        nonlocal done
        done += written
        console.update(done, total, "bytes")

    return progress


if __name__ == "__main__":
    main()
