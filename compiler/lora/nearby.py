"""LoRAs that lie beside the weights of a checkpoint, and that nobody has asked for."""

from collections.abc import Iterable
from pathlib import Path

from mochi_aot.compiler.lora.place import KNOWN_NAMES

_BESIDE = ("", "lora", "loras")


def loras_beside(folders: Iterable[Path], taken: Iterable[Path]) -> list[str]:
    """Return a line for each file in the folders of weights whose name, or whose own folder's, says that it is a LoRA,
    but for those taken."""
    known = {path.resolve() for path in taken}
    places = dict.fromkeys(folder / name for folder in folders for name in _BESIDE)
    found = (file for place in places for file in sorted(place.glob("*.safetensors")))
    return [
        f"{file} lies beside the weights, and is not part of this bundle: --lora {file} merges it"
        for file in found
        if _says_lora(file) and file.resolve() not in known
    ]


def _says_lora(file: Path) -> bool:
    return file.name in KNOWN_NAMES or "lora" in file.name.lower() or file.parent.name in _BESIDE[1:]
