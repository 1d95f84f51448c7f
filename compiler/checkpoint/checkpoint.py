"""Opens a checkpoint of either layout and reads its parameters by their canonical names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint import diffusers, diffusers_config, frequencies, genmo, genmo_config
from mochi_aot.compiler.checkpoint.component import Component, find_weights
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.checkpoint.contents import Contents
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.finite import check_finite
from mochi_aot.compiler.checkpoint.identity import identity
from mochi_aot.compiler.checkpoint.json_config import JsonConfig, read_json
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO, layout_sources
from mochi_aot.compiler.checkpoint.naming import Shape, parameter_shapes
from mochi_aot.compiler.checkpoint.notices import find_notices, find_origin
from mochi_aot.compiler.checkpoint.size_checks import check_sizes
from mochi_aot.compiler.checkpoint.table import Entry, Source, entries
from mochi_aot.compiler.checkpoint.tensor_file import DTYPE_NAMES, DTYPES, TensorFile
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_encoder import read_text_config
from mochi_aot.compiler.checkpoint.tokenizer import find_tokenizer, load_tokenizer_json
from mochi_aot.compiler.checkpoint.verify import locate
from mochi_aot.compiler.reference.config import MochiConfig, TextConfig

TEXT_STEMS = ("model", "diffusion_pytorch_model")  # names that transformers and diffusers give T5's weight files


class Checkpoint:
    """A verified checkpoint. Nothing is in memory but the headers; every read goes to the file."""

    def __init__(
        self,
        layout: str,
        config: MochiConfig,
        tokenizer: Path,
        components: Mapping[str, Component],
        keys: Mapping[Source, str],
        record: ContentRecord | None = None,
        check_weights: bool = True,
        notes: Iterable[str] = (),
        notices: Mapping[str, bytes] | None = None,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        """`keys` has every tensor of the layout for `config`, with the key it has in its component.

        With `check_weights` whatever is read must be finite. `notes` are what a user should know of the checkpoint,
        `notices` and `origin` what it says of itself, see notices.py.
        """
        self.layout = layout
        self.config = config
        self.tokenizer = tokenizer
        self._components = components
        self._keys = keys
        self._entries = entries(keys, parameter_shapes(config))
        self._record = record
        self._recorded: set[str] = set()
        self._contents = self._known_contents()
        self._check_weights = check_weights
        self.notes = tuple(notes)
        self.notices = dict(notices or {})
        self.origin = dict(origin or {})

    def names(self) -> tuple[str, ...]:
        """Return every canonical name, in the order of compiler/checkpoint/naming.py."""
        return tuple(self._entries)

    def shape(self, name: str) -> Shape:
        """Return the shape of parameter `name`. Raise KeyError for a name that the model does not have."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """Return how parameter `name` is stored: "float32", "bfloat16" or "float16"."""
        source = self._entries[name].source
        return DTYPE_NAMES[DTYPES[self._components[source.component].info(self._keys[source]).dtype]]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return the parameter `name`, or the part of it that `index` selects, in the dtype it is stored in, in fresh
        memory.

        `index` has a slice without step for each of the first dimensions. Only the selected rows are read.
        Raise CheckpointError if the file cannot be read any more, and WeightError for rows that are not finite.
        """
        entry = self._entries[name]
        rows, rest = (index[0], index[1:]) if index else (slice(None), ())
        start, stop, step = rows.indices(entry.shape[0])
        if step != 1:
            raise ValueError(f"{name}: rows are read without a step, got {rows}")
        count = max(stop - start, 0)
        tensor = self._read_rows(entry, start, count).reshape(count, *entry.shape[1:])
        self._offer(name, start, tensor)
        return tensor[:, *rest].clone() if rest else tensor

    def fingerprint(self, name: str) -> str:
        """Return what parameter `name` is: its dtype and shape, and the hash of all of its numbers as they are stored.

        Reads what of it was not read yet, unless the record of contents is trusted and has it. Raise CheckpointError
        if its file cannot be read, or was changed since it was opened.
        """
        entry = self._entries[name]
        digest = self._contents[name].digest(lambda start, stop: self._read_rows(entry, start, stop - start))
        file = self._file(entry)
        file.check_unchanged()
        if self._record is not None and file.settled and name not in self._recorded:
            self._recorded.add(name)
            self._record.add(file.state, self._place(entry), digest)
        return f"{self.dtype(name)} {list(entry.shape)} {digest}"

    def identity(self) -> str:
        """Return a hash of the whole model: equal ones have equal sizes and numbers. Read what was not read yet.

        Raise CheckpointError if a file was changed since it was opened.
        """
        found = identity(self.config, {name: self.fingerprint(name) for name in self.names()})
        for component in self._components.values():
            for file in (*component.files, *component.taken.values()):
                file.check_unchanged()
        return found

    def tokenizer_json(self) -> bytes:
        """Return the tokenizer as `tokenizers` loads it. Raise CheckpointError if it is not the text encoder's."""
        return load_tokenizer_json(self.tokenizer, self.config.text.vocab_size)

    def _known_contents(self) -> dict[str, Contents]:
        """Return the contents of each parameter, with nothing hashed yet; some hashes may be known from its file's
        times."""
        known: dict[TensorFile, dict[str, str]] = {}
        contents = {}
        for name, entry in self._entries.items():
            file = self._file(entry)
            if self._record is not None and file not in known:
                known[file] = self._record.known(file.state)
            trusted = known.get(file, {}).get(self._place(entry))
            rows = entry.stop - entry.start
            source = self._keys[entry.source]
            row_bytes = max(file.tensors[source].nbytes // file.tensors[source].shape[0], 1)
            contents[name] = Contents(rows, row_bytes, trusted)
            if trusted is not None:
                self._recorded.add(name)
        return contents

    def _offer(self, name: str, start: int, rows: torch.Tensor) -> None:
        """Have rows hashed that were read, and see that a hash that was trusted is right where all were."""
        contents = self._contents[name]
        contents.offer(start, rows)
        if contents.contradicts():
            path = self._file(self._entries[name]).path
            raise CheckpointError(f"{path}: {name} is not what the file's times say: compile without --trust-times")

    def _place(self, entry: Entry) -> str:
        """Return where a parameter is in its file, as the record of contents has it."""
        return f"{self._keys[entry.source]} {entry.start}:{entry.stop}"

    def _read_rows(self, entry: Entry, start: int, count: int) -> torch.Tensor:
        key, first = self._keys[entry.source], entry.start + start
        file = self._file(entry)
        rows = file.read_rows(key, first, first + count)
        if self._check_weights:
            check_finite(rows, first, f"{file.path}: {key}")
        return rows

    def _file(self, entry: Entry) -> TensorFile:
        return self._components[entry.source.component].file(self._keys[entry.source])


@dataclass(frozen=True)
class _TextFolder:
    """The text encoder's folder and where its tokenizer is."""

    folder: Path
    tokenizer: Path


def open_checkpoint(
    path: str | Path,
    text_encoder: str | Path | None = None,
    check_weights: bool = True,
    record: ContentRecord | None = None,
) -> Checkpoint:
    """Open the checkpoint in folder `path`, recognising its layout, and check every tensor's name and shape.

    Genmo's layout has no T5: `text_encoder` is a folder in Hugging Face layout that holds it, or that holds
    `text_encoder/` and `tokenizer/`; without it these are looked for in `path`. Diffusers' layout has its own, which
    `text_encoder` replaces. Weights are checked while they are read unless `check_weights` is off: one that is not
    finite is an error then. `record` knows, and is told, the contents of files that were read. Raise CheckpointError.
    """
    root = Path(path)
    layout = _recognise(root)
    text = _find_text_encoder(root, layout) if text_encoder is None else _given_text_encoder(Path(text_encoder))
    text_component = Component(TEXT, find_weights(text.folder, TEXT_STEMS))
    text_config = read_text_config(JsonConfig.read(text.folder / "config.json"))
    components, config = (_open_genmo if layout == GENMO else _open_diffusers)(root, text_config)
    check_sizes(config, root)
    components[TEXT] = text_component
    keys = locate(layout_sources(layout, config), components, f"{root} ({layout} layout)")
    notes = _use_precise_frequencies(root, components, keys)
    notices = find_notices([("", root), *([] if text.folder == root else [(f"{TEXT}/", text.folder)])])
    origin = find_origin(root, notices)
    return Checkpoint(layout, config, text.tokenizer, components, keys, record, check_weights, notes, notices, origin)


def _use_precise_frequencies(root: Path, components: dict[str, Component], keys: Mapping[Source, str]) -> list[str]:
    """Look for them in the transformer's files of either layout. Return what is to be said of it."""
    (source,) = (source for source in keys if frequencies.PARAMETER in source.parts)
    folders = (root / diffusers.TRANSFORMER, root)
    note = frequencies.use_float32(components[source.component], keys[source], folders)
    return [] if note is None else [note]


def _open_genmo(root: Path, text: TextConfig) -> tuple[dict[str, Component], MochiConfig]:
    components = {name: Component(name, [root / f"{name}.safetensors"]) for name in genmo.COMPONENTS}
    shapes = {name: component.shapes() for name, component in components.items()}
    dit = genmo_config.read_dit_config(shapes["dit"])
    vae = genmo_config.read_vae_config(shapes["decoder"], shapes["encoder"])
    return components, MochiConfig(dit, vae, text)


def _open_diffusers(root: Path, text: TextConfig) -> tuple[dict[str, Component], MochiConfig]:
    folders = (diffusers.TRANSFORMER, diffusers.VAE)
    components = {name: Component(name, find_weights(root / name, (diffusers.WEIGHTS,))) for name in folders}
    dit, length = diffusers_config.read_dit_config(JsonConfig.read(root / diffusers.TRANSFORMER / "config.json"))
    vae = diffusers_config.read_vae_config(JsonConfig.read(root / diffusers.VAE / "config.json"))
    return components, MochiConfig(dit, vae, text, length)


def _recognise(root: Path) -> str:
    """Return the layout of folder `root`. A folder that holds both, as the published one does, counts as Diffusers'."""
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder: give the folder of a checkpoint in Genmo's or Diffusers' layout"
        )
    index = root / "model_index.json"
    if index.is_file():
        name = read_json(index).get("_class_name")
        if name == diffusers.PIPELINE:
            return DIFFUSERS
        raise CheckpointError(
            f"{index} is of a {name}, expected a {diffusers.PIPELINE}: this is not a Mochi checkpoint"
        )
    if (root / "dit.safetensors").is_file():
        return GENMO
    seen = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
    raise CheckpointError(
        f"{root} is in no known layout: expected model_index.json (Diffusers) or dit.safetensors (Genmo), found {seen}"
    )


def _find_text_encoder(root: Path, layout: str) -> _TextFolder:
    """Return T5 and its tokenizer in the checkpoint's own folder."""
    folder = root / TEXT
    if not folder.is_dir():
        advice = "give T5's folder with --text-encoder" if layout == GENMO else "the checkpoint is incomplete"
        raise CheckpointError(f"{root} has no {TEXT}/: {advice}")
    return _TextFolder(folder, find_tokenizer([root / "tokenizer", folder]))


def _given_text_encoder(folder: Path) -> _TextFolder:
    """Return T5 in `folder` or below it; its tokenizer there or beside it."""
    for candidate in (folder / TEXT, folder):
        if (candidate / "config.json").is_file():
            return _TextFolder(candidate, find_tokenizer([folder / "tokenizer", folder, folder.parent / "tokenizer"]))
    raise CheckpointError(f"{folder} is no text encoder: expected config.json or {TEXT}/config.json in it")
