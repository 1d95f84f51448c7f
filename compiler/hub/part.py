"""A part of a checkpoint by its name on the hub: OWNER/NAME, perhaps /PATH of a file or a folder, perhaps @REVISION."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.compiler.checkpoint import diffusers
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_part import STEMS
from mochi_aot.compiler.checkpoint.weight_sets import ReadJson, choose_weights
from mochi_aot.compiler.hub.fetch import fetch_chosen
from mochi_aot.compiler.hub.files import SHOWN, TOKENIZER, is_of_tokenizer
from mochi_aot.compiler.hub.names import PartName, part_name
from mochi_aot.compiler.job import Progress

_STEMS = {diffusers.TRANSFORMER: (diffusers.WEIGHTS,), diffusers.VAE: (diffusers.WEIGHTS,), TEXT: STEMS}
_CONFIG = "config.json"


@dataclass(frozen=True)
class _Needed:
    """The file or the folder that a part is, and all files of the repository that it needs."""

    place: str
    files: list[str]


def local_part(part: str, place: Path | None, variant: str | None, progress: Progress) -> Path | None:
    """Return where a part lies on this machine: a path as it is, or what it names on the hub once that was fetched.

    `part` is "transformer", "vae", "text_encoder" or "tokenizer". Raise CheckpointError.
    """
    name = None if place is None else part_name(str(place))
    if name is None:
        return place

    def choose(names: Collection[str], read: ReadJson) -> list[str]:
        return _needed(part, name, names, read, variant).files

    root = fetch_chosen(name.repository, name.revision, choose, progress)
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return root / _needed(part, name, names, lambda file: read_json(root / file), variant).place


def _needed(part: str, name: PartName, names: Collection[str], read: ReadJson, variant: str | None) -> _Needed:
    if name.path in names:
        config = str(Path(name.path).parent / _CONFIG)
        return _Needed(name.path, [name.path, *([config] if config in names else [])])
    folders = [name.path] if name.path else [part, "."]
    for folder in folders:
        found = _tokenizer_in(folder, names) if part == TOKENIZER else _weights_in(part, folder, names, read, variant)
        if found:
            return _Needed(folder, found)
    expected = "tokenizer" if part == TOKENIZER else f"{_CONFIG}, with weights beside it,"
    seen = ", ".join(sorted(names)[:SHOWN]) or "nothing"
    raise CheckpointError(
        f"{name.repository} has no {expected} in {' or '.join(folders)}, it has {seen}: "
        f"name a file or a folder of it, as {name.repository}/FILE"
    )


def _weights_in(part: str, folder: str, names: Collection[str], read: ReadJson, variant: str | None) -> list[str]:
    """Return the files of a part in a folder of Hugging Face's layout; of T5 its tokenizer's too, wherever it is."""
    there = {Path(name).name: name for name in names if Path(name).parent == Path(folder)}
    if _CONFIG not in there:
        return []
    taken = choose_weights(Path(folder), there, _STEMS[part], lambda file: read(there[file]), variant).taken
    files = [there[file] for file in (_CONFIG, *taken.files, *([taken.index] if taken.index else []))]
    beside = Path(folder).parent / TOKENIZER
    places = (folder, str(Path(folder) / TOKENIZER), str(beside)) if part == TEXT else ()
    return [*files, *(name for place in places for name in _tokenizer_in(place, names))]


def _tokenizer_in(folder: str, names: Collection[str]) -> list[str]:
    return [name for name in names if Path(name).parent == Path(folder) and is_of_tokenizer(Path(name).name)]
