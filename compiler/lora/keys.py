"""The keys of a LoRA's file: which module each is about, by either layout's name, and which half of a product it is."""

import difflib
import re
from collections.abc import Mapping

from mochi_aot.compiler.checkpoint import diffusers, genmo
from mochi_aot.compiler.checkpoint.table import Source, dit_sources
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.reference.config import DiTConfig

DOWN, UP, ALPHA = "down", "up", "alpha"
# What stands before a module's name: peft's wrapper, diffusers' component, and the attribute that ComfyUI has the
# transformer in.
_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.")
# Genmo's, peft's and diffusers' endings; those with down and up are kohya's, which older diffusers wrote too.
_ENDINGS = re.compile(
    r"\.(?:lora_(?P<ab>[AB])(?:\.default)?(?:\.weight)?|lora_(?P<du>down|up)\.weight"
    r"|lora(?:_linear_layer)?\.(?P<old>down|up)\.weight|(?P<alpha>alpha))$"
)
_HALVES = {"A": DOWN, "B": UP, "down": DOWN, "up": UP}
# Kinds of changes that are no product of two matrices alone.
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "lora_mid": "LoRA of convolutions",
    "lora_B.bias": "LoRA with biases",
    "diff_b": "a difference of whole weights",
    "diff": "a difference of whole weights",
}


def split_key(key: str) -> tuple[str, str] | None:
    """Return the module and the half, DOWN, UP or ALPHA, that a key names; None for a key that is no LoRA's.

    Raise LoraError for other kinds of adapters.
    """
    for sign, kind in _OTHER_KINDS.items():
        if re.search(rf"\.{re.escape(sign)}" if sign.endswith("_") else rf"\.{re.escape(sign)}(\.|$)", key):
            raise LoraError(f"{key} is of {kind}, and only products of two matrices are merged: merge it beforehand")
    found = _ENDINGS.search(key)
    if found is None:
        return None
    half = ALPHA if found["alpha"] else _HALVES[found["ab"] or found["du"] or found["old"]]
    return _plain(key[: found.start()]), half


def modules(config: DiTConfig) -> dict[str, Source]:
    """Return the weight of each module of the transformer that is a product with a matrix, by the module's name in
    either layout. No name is in both."""
    sources = [
        *dit_sources(genmo.DIT, config, genmo.add_block),
        *dit_sources(diffusers.DIT, config, diffusers.add_block),
    ]
    matrices = [source for source in sources if source.key.endswith(".weight") and len(source.shape) > 1]
    return {source.key.removesuffix(".weight"): source for source in matrices}


def nearest(name: str, known: Mapping[str, object]) -> str:
    """Return the known names that are most like this one, for a message."""
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return ", ".join(found)


def _plain(module: str) -> str:
    for prefix in _PREFIXES:
        module = module.removeprefix(prefix)
    return module
