"""Which LoRA is meant: a file, a folder that has one, or a repository of the hub; and how strongly it is to count."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.compiler.lora.errors import LoraError

MAX_STRENGTH = 100.0
_ID = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w./-]+\.safetensors)?(?:@[\w./-]+)?")
# Names that diffusers and peft give the file of a LoRA.
KNOWN_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA as it was asked for: a path, or the id of a repository, and its strength."""

    place: str
    strength: float = 1.0


def parse_lora(text: str) -> LoraChoice:
    """Return the choice that FILE|ID[:STRENGTH] says. Raise LoraError for a strength that is none, or no name."""
    place, colon, tail = text.rpartition(":")
    strength = _strength(tail) if colon and not Path(text).exists() else None
    if strength is None:
        place, strength = text, 1.0
    if not place:
        raise LoraError(f"lora {text!r} names no file: expected FILE or ID, and perhaps :STRENGTH")
    if not (math.isfinite(strength) and abs(strength) <= MAX_STRENGTH):
        raise LoraError(f"lora {text!r}: strength is {strength:g}, expected at most {MAX_STRENGTH:g}")
    return LoraChoice(place, strength)


def find_lora(place: str) -> Path:
    """Return the file of a LoRA: itself, that in a folder, or one of the hub's, fetched. Raise LoraError."""
    path = Path(place)
    if path.is_dir():
        return path / _one_of((file.name for file in path.glob("*.safetensors")), place)
    if path.exists() or not _ID.fullmatch(place):
        return path
    return fetch_lora(place)


def fetch_lora(place: str) -> Path:
    """Return a LoRA's file from the hub, or its cache: OWNER/NAME, perhaps /FILE.safetensors, perhaps @REVISION.

    Tokens, mirrors and offline mode are those of huggingface_hub. Raise LoraError.
    """
    from huggingface_hub import hf_hub_download, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import HFValidationError

    name, _, revision = place.partition("@")
    owner, repository, *file = name.split("/", 2)
    where = {"repo_id": f"{owner}/{repository}", "revision": revision or None}
    try:
        if file:
            return Path(hf_hub_download(filename=file[0], **where))
        try:
            names = list_repo_files(**where)
        except (OfflineModeIsEnabled, OSError):
            names = list(KNOWN_NAMES[:1])  # perhaps the cache has it
        return Path(hf_hub_download(filename=_one_of(names, place), **where))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoraError(f"{place} is no file here, and no LoRA that the hub gives ({reason})") from error


def _one_of(names: Iterable[str], place: str) -> str:
    """Return the name of a folder's LoRA. Raise LoraError where there is none, or several."""
    found = sorted(name for name in names if name.endswith(".safetensors"))
    known = [name for name in KNOWN_NAMES if name in found]
    if known or len(found) == 1:
        return (known or found)[0]
    seen = ", ".join(found[:8]) or "none"
    raise LoraError(f"{place} has no one safetensors file that is the LoRA: name the file, of which there are {seen}")


def _strength(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
