"""The VAE of a checkpoint: its decoder, and its encoder where there is one."""

from dataclasses import replace
from pathlib import Path

from mochi_aot.compiler.checkpoint import diffusers, diffusers_config, genmo_config
from mochi_aot.compiler.checkpoint.component import Component, find_weights, open_weights
from mochi_aot.compiler.checkpoint.json_config import JsonConfig
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO
from mochi_aot.compiler.checkpoint.networks import networks
from mochi_aot.compiler.checkpoint.part import Part, choice_notes, held
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.reference.config import VAEConfig

DECODER, ENCODER = "decoder", "encoder"  # components in Genmo's layout
ENCODER_FILE = "encoder.safetensors"


def vae_at(path: Path, variant: str | None) -> Part[VAEConfig]:
    """Open a VAE in a file, or in a folder with its config.json. Raise CheckpointError.

    The encoder of a decoder in Genmo's keys may be in the file beside it.
    """
    if path.is_dir():
        return _in_folder(path, variant)
    file, beside = TensorFile(path), path.parent / ENCODER_FILE
    names = networks(file).keys()
    alone = DECODER in names and ENCODER not in names
    return vae_in(file, TensorFile(beside) if alone and beside.is_file() else None)


def vae_in(file: TensorFile, encoder: TensorFile | None = None) -> Part[VAEConfig]:
    """Return the VAE in a file, by Genmo's keys or by Diffusers'; by Genmo's its `encoder` may be in another file.

    The latter's sizes are in the config.json beside the file, or else the published ones. Raise CheckpointError.
    """
    if diffusers.VAE in held(file, DECODER, diffusers.VAE):
        return _with_config(Component(diffusers.VAE, [networks(file)[diffusers.VAE]]), file.path.parent)
    views = networks(file)
    if encoder is not None:
        views |= held(encoder, ENCODER)
    components = {name: Component(name, [views[name]]) for name in (DECODER, ENCODER) if name in views}
    shapes = {name: component.shapes() for name, component in components.items()}
    config = genmo_config.read_vae_config(shapes[DECODER], shapes.get(ENCODER))
    return Part(GENMO, config, components, file.path.parent)


def _in_folder(folder: Path, variant: str | None) -> Part[VAEConfig]:
    choice = find_weights(folder, (diffusers.WEIGHTS,), variant)
    part = _with_config(open_weights(diffusers.VAE, folder, choice), folder, required=True)
    return replace(part, variant=choice.taken.variant, notes=choice_notes(folder, choice, variant))


def _with_config(component: Component, folder: Path, required: bool = False) -> Part[VAEConfig]:
    """Return a VAE in Diffusers' keys with the sizes of its config.json, which may be absent unless it is required."""
    path = folder / "config.json"
    fields = JsonConfig.read(path) if required or path.is_file() else JsonConfig(path, {})
    config = diffusers_config.read_vae_config(fields, any(key.startswith("encoder.") for key in component.shapes()))
    return Part(DIFFUSERS, config, {component.name: component}, folder)
