"""A component of a checkpoint: one safetensors file, or a folder of them with an index."""

from collections.abc import Sequence
from pathlib import Path

from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile


class Component:
    """All tensors of a component, whichever of its files they are in."""

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        """Open every file. Raise CheckpointError if one is damaged or two hold the same tensor."""
        self.name = name
        self.files = [TensorFile(path) for path in paths]
        self.taken: dict[str, TensorFile] = {}  # tensors that are read from other files than the component's
        self._where: dict[str, TensorFile] = {}
        for file in self.files:
            for key in file.tensors:
                if key in self._where:
                    raise CheckpointError(f"{key} is in {self._where[key].path} and in {file.path}: keep one of them")
                self._where[key] = file

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every tensor by key."""
        return {key: self.info(key).shape for key in self._where}

    def info(self, key: str) -> Entry:
        """Return what the header says of tensor `key`."""
        return self._where[key].tensors[key]

    def take(self, key: str, file: TensorFile) -> None:
        """Read tensor `key` from another file from now on, which is none of the component's otherwise."""
        self._where[key] = file
        self.taken[key] = file

    def file(self, key: str) -> TensorFile:
        """Return the file that holds tensor `key`."""
        return self._where[key]


def find_weights(folder: Path, stems: Sequence[str]) -> list[Path]:
    """Return the safetensors files of a folder in Hugging Face layout, named after one of `stems`.

    In this order: an index of shards, a single file, and the one variant (as `STEM.bf16.safetensors`) that is there.
    Raise CheckpointError if there is none, or more than one variant to choose from.
    """
    for stem in stems:
        index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
        if index.is_file():
            return _shards(index)
        if single.is_file():
            return [single]
        variants = _variants(folder, stem)
        if len(variants) > 1:
            names = ", ".join(path.name for path in variants)
            raise CheckpointError(f"{folder} holds several variants of its weights ({names}): keep one of them")
        if variants:
            return _shards(variants[0]) if variants[0].suffix == ".json" else variants
    expected = " or ".join(f"{stem}.safetensors" for stem in stems)
    seen = ", ".join(sorted(path.name for path in folder.glob("*"))[:8]) or "nothing"
    raise CheckpointError(f"{folder} holds no {expected}, sharded or whole; it holds {seen}")


def _variants(folder: Path, stem: str) -> list[Path]:
    """Return indexes and whole files of variants; the shards that an index lists are named with a count and left
    out."""
    patterns = (f"{stem}.safetensors.index.*.json", f"{stem}.*.safetensors.index.json", f"{stem}.*.safetensors")
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if "-of-" not in path.name)


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f"{index}: weight_map must map keys to names of files in the same folder")
    return [index.parent / name for name in sorted(set(names))]
