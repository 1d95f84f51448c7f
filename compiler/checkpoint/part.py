"""A part of a checkpoint: the transformer, the VAE or the text encoder, found and opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.networks import TITLES, describe, is_lora, networks
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.weight_sets import PLAIN, Choice

SUFFIXES = (".safetensors", ".gguf")


@dataclass(frozen=True)
class Part[Config]:
    """What was opened, its sizes, the layout that its keys are of, and where its other files lie.

    `variant` is of its weights; `notes` are what a user should know of the choice.
    """

    layout: str
    config: Config
    components: Mapping[str, Component]
    folder: Path
    variant: str = PLAIN
    notes: tuple[str, ...] = ()


def choice_notes(folder: Path, choice: Choice, wanted: str | None) -> tuple[str, ...]:
    """Return what is to be said of the set of weights that was taken in a folder, where it could have been another."""
    taken, others = choice.taken, ", ".join(other.title for other in choice.others)
    if wanted is not None and taken.variant != wanted:
        return (f"{folder} has no variant {wanted}: {taken.title} are taken",)
    if wanted is None and taken.variant:
        return (f"{folder}: {taken.title} is taken, the only one that is whole",)
    if wanted is None and others:
        return (f"{folder}: {taken.title} are taken, and there is {others} too: --variant takes it",)
    return ()


def held(file: TensorFile, *components: str) -> dict[str, TensorFile]:
    """Return the tensors of those of the components that a file holds. Raise CheckpointError if it holds none."""
    found = {name: view for name, view in networks(file).items() if name in components}
    if not found:
        expected = " or ".join(dict.fromkeys(TITLES[name] for name in components))
        advice = ", and is merged into one with --lora" if is_lora(file) else ""
        raise CheckpointError(f"{file.path} holds {describe(file)}{advice}, expected {expected}")
    return found


class FilesOf:
    """The files of tensors that lie in a folder itself, opened once; those that cannot be opened are passed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[TensorFile] | None = None
        self._faults: list[str] = []

    def with_network(self, component: str, option: str) -> TensorFile | None:
        """Return the file that holds a component, or None. Raise CheckpointError if several do; `option` names one."""
        found = [file for file in self._files() if component in networks(file)]
        if len(found) > 1:
            names = ", ".join(file.path.name for file in found)
            raise CheckpointError(
                f"{self.folder} has several files with {TITLES[component]} ({names}): name one with {option}"
            )
        return found[0] if found else None

    @property
    def faults(self) -> str:
        """What was wrong with files that were passed over, behind a colon, or nothing."""
        return f": {'; '.join(self._faults)}" if self._faults else ""

    def _files(self) -> list[TensorFile]:
        if self._opened is None:
            self._opened = []
            for path in sorted(self.folder.iterdir()):
                if path.suffix in SUFFIXES and "-of-" not in path.name and path.is_file():
                    try:
                        self._opened.append(TensorFile(path))
                    except CheckpointError as error:
                        self._faults.append(str(error))
        return self._opened
