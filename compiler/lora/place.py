"""Where the file of a LoRA is on this machine: a path, or one of the hub's, once it is fetched."""

import re
from collections.abc import Iterable
from pathlib import Path

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.hub.fetch import fetch_file
from mochi_aot.compiler.lora.errors import LoraError

# OWNER/NAME, perhaps with a file of it, perhaps with a revision.
_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:/([\w./ -]+\.safetensors))?(?:@([\w./-]+))?")
# Names that diffusers and peft give the file of a LoRA.
KNOWN_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


def find_lora(place: str) -> Path:
    """Return the file of a LoRA: itself, that in a folder, or one of the hub's: OWNER/NAME, perhaps /FILE.safetensors,
    perhaps @REVISION. Raise LoraError."""
    path, named = Path(place), _ID.fullmatch(place)
    if path.is_dir():
        return path / _one_of((file.name for file in path.glob("*.safetensors")), place)
    if named is None or path.exists():
        return path
    repository, name, revision = named.groups()

    def chosen(names: Iterable[str] | None) -> str:
        return name or (KNOWN_NAMES[0] if names is None else _one_of(names, place))

    try:
        return fetch_file(repository, revision, chosen)
    except CheckpointError as error:
        raise LoraError(f"{place} is no file here, and the hub gives none: {error}") from error


def _one_of(names: Iterable[str], place: str) -> str:
    """Return the name of a folder's LoRA. Raise LoraError where there is none, or several."""
    found = sorted(name for name in names if name.endswith(".safetensors"))
    known = [name for name in KNOWN_NAMES if name in found]
    if known or len(found) == 1:
        return (known or found)[0]
    seen = ", ".join(found[:8]) or "none"
    raise LoraError(f"{place} has no one safetensors file that is the LoRA: name the file, of which there are {seen}")
