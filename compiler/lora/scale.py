"""How strongly a LoRA's file says that its products count: alpha divided by the rank, in each writer's own words."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from mochi_aot.compiler.lora.errors import LoraError

# Keys of the notes in a safetensors file's header: Genmo's fine-tuner writes the model's arguments, diffusers peft's
# configuration with the component before each key.
GENMO_NOTE, DIFFUSERS_NOTE = "kwargs", "lora_adapter_metadata"
_PREFIX = "transformer."


class Scales:
    """Tells a module's scale by its name and its product's rank.

    A file that says nothing means alpha = rank, as diffusers and ComfyUI take it: the product counts once.
    """

    def __init__(self, notes: Mapping[str, str], config: Mapping[str, Any] | None = None) -> None:
        """Take the notes in the file's header, and peft's adapter_config.json where it lies beside.

        Raise LoraError for notes that say what is not merged here, or nothing that can be understood.
        """
        genmo, diffusers = _decoded(notes, GENMO_NOTE), _decoded(notes, DIFFUSERS_NOTE)
        self._genmo = genmo if any("_lora_" in key for key in genmo) else {}
        self._peft = {key.removeprefix(_PREFIX): value for key, value in diffusers.items()} or dict(config or {})
        for unknown in ("use_dora", "lora_bias"):
            if self._peft.get(unknown):
                raise LoraError(f"{unknown} is set, and only products of two matrices are merged")

    def scale(self, module: str, rank: int, alpha: float | None = None) -> float:
        """Return the scale of a product; `alpha` is the module's own, where the file has one.

        Raise LoraError where the file says another rank than it holds.
        """
        if alpha is not None:
            return alpha / rank
        if self._genmo:
            return self._by_genmo(module, rank)
        return self._by_peft(module, rank) if self._peft else 1.0

    def _by_genmo(self, module: str, rank: int) -> float:
        layer = "qkv_proj" if ".qkv_" in module else "out_proj"
        said, alpha = (_number(self._genmo, f"{layer}_lora_{name}") for name in ("rank", "alpha"))
        if said is not None and said != rank:
            raise LoraError(f"{module} has rank {rank}, and the file's {layer}_lora_rank is {said:g}")
        return 1.0 if alpha is None else alpha / rank

    def _by_peft(self, module: str, rank: int) -> float:
        alpha = _number(_matching(self._peft, "alpha_pattern", module), "") or _number(self._peft, "lora_alpha")
        said = _number(_matching(self._peft, "rank_pattern", module), "") or _number(self._peft, "r")
        if said is not None and said != rank:
            raise LoraError(f"{module} has rank {rank}, and the file's notes say {said:g}")
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self._peft.get("use_rslora") else rank)


def _decoded(notes: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(notes.get(key, "{}"))
    except (ValueError, RecursionError):
        raise LoraError(f"the note {key!r} in its header is not JSON") from None
    if not isinstance(value, dict):
        raise LoraError(f"the note {key!r} in its header is no JSON object")
    return value


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LoraError(f"{key or 'a pattern'} is {value!r}, expected a number")
    return float(value)


def _matching(config: Mapping[str, Any], name: str, module: str) -> dict[str, Any]:
    """Return {"": number} for the first pattern that fits a module, as peft looks them up: at the end of its name."""
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict):
        raise LoraError(f"{name} is {patterns!r}, expected an object")
    for pattern, value in patterns.items():
        plain = pattern.removeprefix("^").removeprefix(_PREFIX)
        if module == plain or (not pattern.startswith("^") and re.fullmatch(rf"(.*\.)?{re.escape(plain)}", module)):
            return {"": value}
    return {}
