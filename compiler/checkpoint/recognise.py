"""Which layout a checkpoint is in, by what is there."""

from pathlib import Path

from mochi_aot.compiler.checkpoint import diffusers
from mochi_aot.compiler.checkpoint.component import find_weights
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO
from mochi_aot.compiler.checkpoint.part_sources import DiffusersFolder, GenmoFolder, PartSource, SingleFile
from mochi_aot.compiler.checkpoint.wanted import Wanted

INDEX = "model_index.json"
SHOWN = 8

Recognised = tuple[PartSource, list[str]]  # and what is to be said of the choice


def recognise(root: Path, wanted: Wanted) -> Recognised:
    """Return where the parts of a checkpoint are: in a folder, or in one file. Raise CheckpointError if in neither.

    A folder that holds both layouts, as the published one does, counts as Diffusers' unless that is incomplete.
    """
    if root.is_file():
        return SingleFile(root), []
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder: give the folder of a checkpoint in Genmo's or Diffusers' layout"
        )
    genmo = GenmoFolder(root, wanted.variant)
    has_index = (root / INDEX).is_file()
    if has_index:
        _check_pipeline(root / INDEX)
    if wanted.layout == GENMO or (wanted.layout is None and not has_index):
        return _genmo(root, genmo, wanted), []
    if not has_index:
        raise CheckpointError(f"{root} has no {INDEX}: it is not in Diffusers' layout, which --layout asks for")
    folder = DiffusersFolder(root, wanted.variant)
    if wanted.layout == DIFFUSERS or not _has_genmo_names(root):
        return folder, []
    fault = _fault(root, wanted)
    if fault is not None:
        return genmo, [f"{root}: Genmo's layout is taken, since Diffusers' is incomplete: {fault}"]
    return folder, [f"{root}: Diffusers' layout is taken, and Genmo's is there too: --layout genmo takes it"]


def _genmo(root: Path, genmo: GenmoFolder, wanted: Wanted) -> GenmoFolder:
    if wanted.transformer is None and not genmo.has_transformer():
        seen = ", ".join(sorted(entry.name for entry in root.iterdir())[:SHOWN]) or "nothing"
        raise CheckpointError(
            f"{root} is in no known layout: expected {INDEX} (Diffusers) or dit.safetensors (Genmo), found {seen}"
            f"{genmo.faults}"
        )
    return genmo


def _has_genmo_names(root: Path) -> bool:
    return (root / "dit.safetensors").is_file()


def _fault(root: Path, wanted: Wanted) -> str | None:
    """Return why the networks of Diffusers' layout are not whole, or None."""
    try:
        for name in (diffusers.TRANSFORMER, diffusers.VAE):
            find_weights(root / name, (diffusers.WEIGHTS,), wanted.variant)
    except CheckpointError as error:
        return str(error)
    return None


def _check_pipeline(index: Path) -> None:
    name = read_json(index).get("_class_name")
    if name != diffusers.PIPELINE:
        raise CheckpointError(
            f"{index} is of a {name}, expected a {diffusers.PIPELINE}: this is not a Mochi checkpoint"
        )
