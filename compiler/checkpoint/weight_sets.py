"""The sets of weight files in a folder of Hugging Face's layout, whole or in shards, plain or of a variant.

Names alone, and the indexes: the folder may be on this machine or on the hub.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.file_kind import pickle_advice

PLAIN = ""  # the variant of a set that has none
SHOWN = 8  # names in an error

ReadJson = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class WeightSet:
    """Files that together hold a network. `variant` is as in `STEM.bf16.safetensors`; `missing` are of `files`.

    `fault` is what was wrong with the index, of which no files are known then.
    """

    variant: str
    files: tuple[str, ...]
    index: str | None = None
    missing: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def whole(self) -> bool:
        return not self.missing and self.fault is None

    @property
    def title(self) -> str:
        return f"variant {self.variant}" if self.variant else "the plain weights"


@dataclass(frozen=True)
class Choice:
    """The set that is taken, and the variants of others that could have been."""

    taken: WeightSet
    others: tuple[WeightSet, ...]


def choose_weights(
    folder: Path, names: Collection[str], stems: Sequence[str], read: ReadJson, variant: str | None = None
) -> Choice:
    """Return the set to take of those in a folder that has files `names`, of which `read` reads indexes.

    That of `variant`, where there is one. Otherwise, and where none is wanted, the plain one, or if it is not there the
    only variant. Raise CheckpointError if there is none, if a shard is missing, or for several variants.
    """
    sets = [found for stem in stems for found in _sets(folder, names, stem, read)]
    whole = [found for found in sets if found.whole]
    preferred = [found for found in sets if found.variant == variant] if variant else []
    plain = [found for found in whole if found.variant == PLAIN]
    candidates = [found for found in preferred if found.whole]
    if preferred and not candidates:
        raise _incomplete(folder, preferred)
    candidates = candidates or plain or whole
    if not candidates:
        raise _incomplete(folder, sets) if sets else _nothing(folder, names, stems)
    if not plain and len({found.variant for found in candidates}) > 1:
        files = ", ".join(found.index or found.files[0] for found in candidates)
        raise CheckpointError(f"{folder} holds several variants of its weights ({files}): name one with --variant")
    taken = candidates[0]
    return Choice(taken, tuple(found for found in whole if found.variant != taken.variant))


def _sets(folder: Path, names: Collection[str], stem: str, read: ReadJson) -> list[WeightSet]:
    """Return the sets of one stem, those with an index first."""
    word = r"(?P<variant>[\w-]+)"
    begin = re.escape(stem)
    patterns = (
        rf"{begin}\.safetensors\.index(\.{word})?\.json",
        rf"{begin}\.{word}\.safetensors\.index\.json",
        rf"{begin}(\.{word})?\.safetensors",
    )
    found = []
    for pattern in patterns:
        for name in sorted(names):
            match = re.fullmatch(pattern, name)
            if match is None or "-of-" in name:
                continue
            variant = match["variant"] or PLAIN
            found.append(
                _sharded(variant, folder, name, names, read) if name.endswith(".json") else WeightSet(variant, (name,))
            )
    return found


def _sharded(variant: str, folder: Path, index: str, names: Collection[str], read: ReadJson) -> WeightSet:
    """Return the set of an index, also of one that cannot be read: there may be another set."""
    try:
        files = _shards(folder, index, read)
    except CheckpointError as error:
        return WeightSet(variant, (), index, fault=str(error))
    return WeightSet(variant, files, index, tuple(name for name in files if name not in names))


def _shards(folder: Path, index: str, read: ReadJson) -> tuple[str, ...]:
    weight_map = read(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f"{folder / index}: weight_map must map keys to names of files in the same folder")
    return tuple(sorted(set(names)))


def _incomplete(folder: Path, sets: Sequence[WeightSet]) -> CheckpointError:
    first = sets[0]
    if first.fault is not None:
        return CheckpointError(first.fault)
    names = [str(folder / name) for name in first.missing]
    missing = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    verb = "is" if len(names) == 1 else "are"
    return CheckpointError(f"{missing} {verb} missing, which {first.index} names: the checkpoint is incomplete")


def _nothing(folder: Path, names: Collection[str], stems: Sequence[str]) -> CheckpointError:
    pickles = [name for name in sorted(names) if name.endswith((".bin", ".bin.index.json"))]
    if pickles:
        pickle = folder / pickles[0]
        return CheckpointError(f"{pickle} is of torch.save, and there are no safetensors: {pickle_advice(pickle)}")
    expected = " or ".join(f"{stem}.safetensors" for stem in stems)
    seen = ", ".join(sorted(names)[:SHOWN]) or "nothing"
    return CheckpointError(f"{folder} holds no {expected}, sharded or whole; it holds {seen}")
