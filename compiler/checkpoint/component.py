"""A component of a checkpoint: one safetensors file, or a folder of them with an index."""

from collections.abc import Sequence
from pathlib import Path

from mochi_aot.artifacts.safetensors_header import Entry
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.json_config import read_json
from mochi_aot.compiler.checkpoint.naming import Shape
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.weight_sets import Choice, choose_weights


class Component:
    """All tensors of a component, whichever of its files they are in."""

    def __init__(self, name: str, files: Sequence[Path | TensorFile]) -> None:
        """Open every file that is not open. Raise CheckpointError if one is damaged or two hold the same tensor."""
        self.name = name
        self.files = [TensorFile(file) if isinstance(file, Path) else file for file in files]
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


def find_weights(folder: Path, stems: Sequence[str], variant: str | None = None) -> Choice:
    """Return the weight files to take in a folder of this machine, see weight_sets.choose_weights."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}/ is missing: the checkpoint is incomplete")
    names = [path.name for path in folder.iterdir()]
    return choose_weights(folder, names, stems, lambda name: read_json(folder / name), variant)


def open_weights(name: str, folder: Path, choice: Choice) -> Component:
    """Open the files of a folder that were chosen, as component `name`."""
    return Component(name, [folder / file for file in choice.taken.files])
