"""The transformer of a checkpoint, in a file of its own or in Diffusers' folder."""

from pathlib import Path

from mochi_aot.compiler.checkpoint import diffusers, diffusers_config, genmo_config
from mochi_aot.compiler.checkpoint.component import Component, find_weights, open_weights
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO
from mochi_aot.compiler.checkpoint.part import Part, choice_notes, held
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.reference.config import DiTConfig, MochiConfig

DIT = "dit"  # the component in Genmo's layout
Sizes = tuple[DiTConfig, int]  # and the length of a prompt in tokens


def transformer_at(path: Path, variant: str | None) -> Part[Sizes]:
    """Open a transformer in a file, or in a folder with its config.json. Raise CheckpointError."""
    return _in_folder(path, variant) if path.is_dir() else transformer_in(TensorFile(path))


def transformer_in(file: TensorFile) -> Part[Sizes]:
    """Return the transformer in a file, by Genmo's keys or by Diffusers'.

    The latter's sizes are in the config.json beside the file, or else the published ones. Raise CheckpointError.
    """
    ((name, view),) = list(held(file, DIT, diffusers.TRANSFORMER).items())[:1]
    component, folder = Component(name, [view]), file.path.parent
    if name == DIT:
        sizes = (genmo_config.read_dit_config(component.shapes()), MochiConfig.text_length)
        return Part(GENMO, sizes, {name: component}, folder)
    path = folder / "config.json"
    config = JsonConfig.read(path) if path.is_file() else JsonConfig(path, {})
    return Part(DIFFUSERS, diffusers_config.read_dit_config(config), {name: component}, folder)


def _in_folder(folder: Path, variant: str | None) -> Part[Sizes]:
    choice = find_weights(folder, (diffusers.WEIGHTS,), variant)
    component = open_weights(diffusers.TRANSFORMER, folder, choice)
    sizes = diffusers_config.read_dit_config(JsonConfig.read(folder / "config.json"))
    notes = choice_notes(folder, choice, variant)
    return Part(DIFFUSERS, sizes, {component.name: component}, folder, choice.taken.variant, notes)
