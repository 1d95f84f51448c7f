"""Which LoRA is meant, and how strongly it is to count."""

import math
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.compiler.lora.errors import LoraError

MAX_STRENGTH = 100.0


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


def _strength(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
