"""Which files of a repository on the hub a compile needs, by their names and the indexes of shards."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mochi_aot.compiler.checkpoint import diffusers
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.layouts import DIFFUSERS, GENMO
from mochi_aot.compiler.checkpoint.notices import is_notice
from mochi_aot.compiler.checkpoint.part_sources import DECODER_FILES, DIT_FILE
from mochi_aot.compiler.checkpoint.recognise import INDEX
from mochi_aot.compiler.checkpoint.text_encoder import COMPONENT as TEXT
from mochi_aot.compiler.checkpoint.text_part import STEMS
from mochi_aot.compiler.checkpoint.tokenizer import JSON, SENTENCEPIECE
from mochi_aot.compiler.checkpoint.vae_part import ENCODER_FILE
from mochi_aot.compiler.checkpoint.wanted import Wanted
from mochi_aot.compiler.checkpoint.weight_sets import ReadJson, choose_weights

TOKENIZER = "tokenizer"
_TOKENIZERS = re.compile(r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|spiece\.model")
SHOWN = 8


def is_of_tokenizer(name: str) -> bool:
    """Return whether a file of this name is one of T5's tokenizer."""
    return _TOKENIZERS.fullmatch(name) is not None


class HubFiles:
    """The files of a repository. `read` gives the JSON object in one of them."""

    def __init__(self, repository: str, names: Collection[str], read: ReadJson) -> None:
        self._repository, self._names, self._read = repository, names, read
        self._variants: set[str] = set()

    def needed(self, wanted: Wanted) -> list[str]:
        """Return the names of what is needed of the parts that `wanted` does not name, of the layout that it names or
        that there is.

        Raise CheckpointError where a part is missing, in part or whole, so that nothing is fetched in vain.
        """
        layout = self._layout(wanted)
        parts = self._diffusers(wanted) if layout == DIFFUSERS else self._genmo(wanted)
        found = [*(name for name in self._names if is_notice(name)), *parts]
        if wanted.text_encoder is None:
            found += self._text(wanted)
        if wanted.tokenizer is None and (wanted.text_encoder is None or self._in(TOKENIZER)):
            found += self._tokenizer()
        if wanted.variant and wanted.variant not in self._variants:
            raise CheckpointError(f"{self._repository} has no weights of variant {wanted.variant} in {layout} layout")
        return sorted(dict.fromkeys(found))

    def _layout(self, wanted: Wanted) -> str:
        marks = {DIFFUSERS: INDEX, GENMO: DIT_FILE}
        there = [layout for layout, mark in marks.items() if mark in self._names]
        if wanted.layout in there:
            return wanted.layout
        if wanted.layout is None and there:
            return there[0]
        seen = ", ".join(sorted(self._names)[:SHOWN]) or "nothing"
        expected = marks[wanted.layout] if wanted.layout else " or ".join(marks.values())
        raise CheckpointError(
            f"{self._repository} has no {expected}, it has {seen}: "
            "fetch its files, and name them with --transformer, --vae and --text-encoder"
        )

    def _diffusers(self, wanted: Wanted) -> Iterator[str]:
        yield INDEX
        for folder, given in ((diffusers.TRANSFORMER, wanted.transformer), (diffusers.VAE, wanted.vae)):
            if given is None:
                yield from self._weights(folder, (diffusers.WEIGHTS,), wanted)

    def _genmo(self, wanted: Wanted) -> Iterator[str]:
        if wanted.transformer is None:
            yield DIT_FILE
        if wanted.vae is None:
            decoders = [name for name in DECODER_FILES if name in self._names]
            if not decoders:
                raise CheckpointError(f"{self._repository} has no {DECODER_FILES[0]}: give the VAE's file with --vae")
            yield decoders[0]
            if ENCODER_FILE in self._names:
                yield ENCODER_FILE

    def _text(self, wanted: Wanted) -> Iterator[str]:
        if f"{TEXT}/config.json" not in self._names:
            raise CheckpointError(f"{self._repository} has no {TEXT}/: give T5's folder with --text-encoder")
        yield from self._weights(TEXT, STEMS, wanted)
        yield from (name for name in self._in(TEXT).values() if is_notice(Path(name).name))

    def _tokenizer(self) -> list[str]:
        """Return the tokenizer's files, of its own folder or of the text encoder's."""
        for folder in (TOKENIZER, TEXT):
            names = self._in(folder)
            if JSON in names or SENTENCEPIECE in names:
                return [path for name, path in names.items() if is_of_tokenizer(name)]
        raise CheckpointError(f"{self._repository} has no {TOKENIZER}/: name T5's tokenizer with --tokenizer")

    def _weights(self, folder: str, stems: tuple[str, ...], wanted: Wanted) -> Iterator[str]:
        names = self._in(folder)
        place = Path(f"{self._repository}/{folder}")
        choice = choose_weights(place, names.keys(), stems, self._read_in(folder), wanted.variant)
        self._variants.add(choice.taken.variant)
        yield f"{folder}/config.json"
        files = [*choice.taken.files, *([choice.taken.index] if choice.taken.index else [])]
        yield from (f"{folder}/{name}" for name in files)

    def _read_in(self, folder: str) -> ReadJson:
        def read(name: str) -> dict[str, Any]:
            return self._read(f"{folder}/{name}")

        return read

    def _in(self, folder: str) -> dict[str, str]:
        """Return the files of a folder itself: name there -> name in the repository."""
        return {Path(name).name: name for name in self._names if Path(name).parent == Path(folder)}
