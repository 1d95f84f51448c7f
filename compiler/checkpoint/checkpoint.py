"""Reads the parameters of an opened checkpoint by their canonical names."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from mochi_aot.compiler.checkpoint.component import Component
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.checkpoint.contents import Contents
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.finite import check_finite
from mochi_aot.compiler.checkpoint.identity import identity
from mochi_aot.compiler.checkpoint.naming import Shape, parameter_shapes
from mochi_aot.compiler.checkpoint.stored_dtypes import DTYPE_NAMES, STORED
from mochi_aot.compiler.checkpoint.table import Entry, Source, entries
from mochi_aot.compiler.checkpoint.tensor_file import TensorFile
from mochi_aot.compiler.checkpoint.tokenizer import load_tokenizer_json
from mochi_aot.compiler.reference.config import MochiConfig


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
        `notices` and `origin` what it says of itself, see notices.py, and which of its weights were taken.
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

    def folders(self) -> list[Path]:
        """Return the folders that its files of weights are in, sorted."""
        return sorted({file.path.parent for component in self._components.values() for file in component.files})

    def shape(self, name: str) -> Shape:
        """Return the shape of parameter `name`. Raise KeyError for a name that the model does not have."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """Return the dtype that parameter `name` is read in: "float32", "bfloat16" or "float16"."""
        source = self._entries[name].source
        stored = STORED[self._components[source.component].info(self._keys[source]).dtype]
        return DTYPE_NAMES[stored.dtype]

    def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
        """Return the parameter `name`, or the part of it that `index` selects, in the dtype that `dtype` says, in
        fresh memory.

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
        return f"{self._stored_key(entry)} {entry.start}:{entry.stop}"

    def _read_rows(self, entry: Entry, start: int, count: int) -> torch.Tensor:
        key, first = self._keys[entry.source], entry.start + start
        file = self._file(entry)
        rows = file.read_rows(key, first, first + count)
        if self._check_weights:
            check_finite(rows, first, f"{file.path}: {self._stored_key(entry)}")
        return rows

    def _stored_key(self, entry: Entry) -> str:
        return f"{self._file(entry).prefix}{self._keys[entry.source]}"

    def _file(self, entry: Entry) -> TensorFile:
        return self._components[entry.source.component].file(self._keys[entry.source])
