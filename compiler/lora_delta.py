"""LoRAs for a bundle, without its checkpoint: to which of its weights their products are added, and how.

The transformer's programs are compiled again from the sizes that the manifest records, which tells what parameters each
weight is made of. No weight is read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mochi_aot.artifacts.delta_schema import LoraRecord
from mochi_aot.artifacts.delta_writer import WrittenDelta, write_lora_delta
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.lora.choice import parse_lora
from mochi_aot.compiler.lora.errors import LoraError
from mochi_aot.compiler.lora.lora import Change, Lora, read_lora
from mochi_aot.compiler.lora.place import find_lora
from mochi_aot.compiler.lora.record import record_of_changes
from mochi_aot.compiler.lora.tuned import changes_of, said_of
from mochi_aot.compiler.lower.target import FormedParam
from mochi_aot.compiler.lower.weights import checkpoint_names
from mochi_aot.compiler.rebuilt import TransformerWeights, model_config

_REMEDY = "compile the style with mochi-compile --lora, and make the delta of both bundles"


def write_delta_of_loras(base: Bundle, texts: Sequence[str], path: Path, force: bool, created_by: str) -> WrittenDelta:
    """Write to the folder `path` the delta that adds LoRAs, each FILE|ID[:STRENGTH], to `base`.

    Raise LoraError, RebuildError for a bundle that this version of the compiler would make otherwise, and BundleError.
    """
    config = model_config(base.manifest).dit
    choices = [parse_lora(text) for text in texts]
    loras = [read_lora(find_lora(choice.place), config, choice.strength) for choice in choices]
    record, data = record_for(base, loras)
    checkpoint = {name: text for name, text in base.manifest.checkpoint.items() if name != "identity"}
    said = [text for text in (checkpoint.get("lora"), said_of(loras)) if text]
    return write_lora_delta(base, record, data, checkpoint | {"lora": ", ".join(said)}, path, force, created_by)


def record_for(bundle: Bundle, loras: Sequence[Lora]) -> tuple[LoraRecord, bytes]:
    """Return the record of LoRAs for a bundle into which they are not merged, and their factors.

    Raise LoraError where they change nothing, or a weight that no host makes again; RebuildError for a bundle of
    another version of the compiler.
    """
    changes = changes_of(loras)
    params = {param.name: param for param in TransformerWeights(bundle).params()}
    found = record_of_changes(params.values(), lambda name: changes.get(name, ()))
    made = set() if found is None else {weight.name for weight in found[0].weights}
    touched = {param.name: _changed(param, changes) for param in params.values() if _changed(param, changes)}
    reached = {name for weight, names in touched.items() if weight in made for name in names}
    left = [name for weight, names in touched.items() if weight not in made for name in names]
    if left := [*left, *(name for name in changes if name not in reached)]:
        raise LoraError(f"{said_of(loras)}: {left[0]} is not held as a matrix that products can be added to: {_REMEDY}")
    if found is None:
        raise LoraError(f"{said_of(loras)} changes nothing: its strength is 0")
    return found


def _changed(param: FormedParam, changes: Mapping[str, Sequence[Change]]) -> list[str]:
    """Return the parameters in a weight that LoRAs change."""
    return [name for name in checkpoint_names(param.param.recipe) if name in changes]
