"""Where the parts of a checkpoint are, each that is not named by itself: a folder of either layout, or one file."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mochi_aot.compiler.checkpoint import diffusers
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.part import FilesOf, Part
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_part import text_in, text_in_folder
from mochi_aot.compiler.checkpoint.transformer_part import DIT, Sizes, transformer_at, transformer_in
from mochi_aot.compiler.checkpoint.vae_part import DECODER, ENCODER, ENCODER_FILE, vae_at, vae_in
from mochi_aot.compiler.reference.config import TextConfig, VAEConfig

DIT_FILE = "dit.safetensors"
DECODER_FILES = ("decoder.safetensors", "vae.safetensors")  # the second in Genmo's first release
_OPTIONS = {DIT: "--transformer", DECODER: "--vae", ENCODER: "--vae", TEXT: "--text-encoder"}


class PartSource(Protocol):
    """Gives the parts of a checkpoint. Each method raises CheckpointError where its part is not there, or damaged."""

    def transformer(self) -> Part[Sizes]: ...

    def vae(self) -> Part[VAEConfig]: ...

    def text(self) -> Part[TextConfig]: ...


class DiffusersFolder:
    """A folder in Diffusers' layout."""

    def __init__(self, root: Path, variant: str | None) -> None:
        self._root, self._variant = root, variant

    def transformer(self) -> Part[Sizes]:
        return transformer_at(_folder(self._root / diffusers.TRANSFORMER), self._variant)

    def vae(self) -> Part[VAEConfig]:
        return vae_at(_folder(self._root / diffusers.VAE), self._variant)

    def text(self) -> Part[TextConfig]:
        folder = self._root / TEXT
        if not folder.is_dir():
            raise CheckpointError(f"{self._root} has no {TEXT}/: the checkpoint is incomplete")
        return text_in_folder(folder, self._variant)


class GenmoFolder:
    """A folder with a file for each network, as Genmo's layout has them, or with other names.

    Networks in files of other names are found by what the files hold.
    """

    def __init__(self, root: Path, variant: str | None) -> None:
        self._root, self._variant, self._files = root, variant, FilesOf(root)

    def transformer(self) -> Part[Sizes]:
        file = self._file(DIT, DIT_FILE)
        if file is None:
            raise self._absent(DIT_FILE)
        return transformer_in(file)

    def vae(self) -> Part[VAEConfig]:
        file = self._file(DECODER, *DECODER_FILES)
        if file is None:
            raise self._absent(DECODER_FILES[0])
        return vae_in(file, self._file(ENCODER, ENCODER_FILE))

    def text(self) -> Part[TextConfig]:
        folder = self._root / TEXT
        if folder.is_dir():
            return text_in_folder(folder, self._variant)
        file = self._file(TEXT)
        if file is None:
            raise CheckpointError(f"{self._root} has no {TEXT}/: give T5's folder with --text-encoder")
        return text_in(file)

    def has_transformer(self) -> bool:
        """Return whether there is a file of the transformer's name, or one that holds Genmo's transformer."""
        return (self._root / DIT_FILE).is_file() or self._files.with_network(DIT, _OPTIONS[DIT]) is not None

    @property
    def faults(self) -> str:
        """What was wrong with files that were passed over, behind a colon, or nothing."""
        return self._files.faults

    def _file(self, component: str, *names: str) -> TensorFile | None:
        """Return the first file that has one of `names`, or else the one that holds a component."""
        for name in names:
            if (self._root / name).is_file():
                return TensorFile(self._root / name)
        return self._files.with_network(component, _OPTIONS[component])

    def _absent(self, name: str) -> CheckpointError:
        return CheckpointError(f"{self._root / name} is missing: the checkpoint is incomplete{self.faults}")


class SingleFile:
    """One file that holds every network, as ComfyUI's checkpoints do."""

    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)

    def transformer(self) -> Part[Sizes]:
        return transformer_in(self._file)

    def vae(self) -> Part[VAEConfig]:
        return self._or_advice(lambda: vae_in(self._file), "--vae")

    def text(self) -> Part[TextConfig]:
        return self._or_advice(lambda: text_in(self._file), "--text-encoder")

    def _or_advice[Config](self, find: Callable[[], Part[Config]], option: str) -> Part[Config]:
        try:
            return find()
        except CheckpointError as error:
            raise CheckpointError(f"{error}: give the part that is missing with {option}") from None


class TransformerFolder:
    """A folder that holds the transformer alone, where no checkpoint was given: other parts have to be named."""

    def __init__(self, path: Path, variant: str | None) -> None:
        self._path, self._variant = path, variant

    def transformer(self) -> Part[Sizes]:
        return transformer_at(self._path, self._variant)

    def vae(self) -> Part[VAEConfig]:
        raise self._absent("the VAE", "--vae")

    def text(self) -> Part[TextConfig]:
        raise self._absent("T5", "--text-encoder")

    def _absent(self, what: str, option: str) -> CheckpointError:
        return CheckpointError(f"{self._path} holds the transformer alone: give {what} with {option}")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"{path}/ is missing: the checkpoint is incomplete")
    return path
