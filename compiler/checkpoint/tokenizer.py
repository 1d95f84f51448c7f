"""T5's tokenizer as one JSON file that the `tokenizers` library loads without transformers."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from mochi_aot.artifacts.errors import library_errors
from mochi_aot.artifacts.regular_file import read_regular
from mochi_aot.artifacts.tokenizer_limits import check_tokenizer
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.file_kind import check_not_pointer

JSON, SENTENCEPIECE = "tokenizer.json", "spiece.model"
END = "</s>"


def find_tokenizer(folders: Iterable[Path]) -> Path:
    """Return the first of `folders` that holds a tokenizer. Raise CheckpointError if none does."""
    candidates = list(folders)
    for folder in candidates:
        if any((folder / name).is_file() for name in (JSON, SENTENCEPIECE)):
            return folder
    names = ", ".join(dict.fromkeys(str(folder) for folder in candidates))
    raise CheckpointError(
        f"no tokenizer ({JSON} or {SENTENCEPIECE}) in any of {names}: name T5's tokenizer with --tokenizer"
    )


def load_tokenizer_json(folder: str | Path, vocab_size: int | None = None) -> bytes:
    """Return the tokenizer in `folder` as the bytes of a tokenizer.json: the file as it is, or converted from
    spiece.model.

    Raise CheckpointError if it cannot be read, does not end a prompt with </s>, or knows tokens past `vocab_size`.
    """
    path = Path(folder) / JSON
    if not path.is_file():
        path = Path(folder) / SENTENCEPIECE
    with library_errors(lambda reason: CheckpointError(f"{path} cannot be read as a tokenizer: {reason}")):
        data = read_regular(path)
        check_not_pointer(path, data)
        data = data if path.name == JSON else _convert(path.parent)
        check_tokenizer(data)
        tokenizer = Tokenizer.from_buffer(data)
        tokens = tokenizer.encode("a prompt").tokens
    if tokens[-1:] != [END]:
        raise CheckpointError(f"{path} does not end a prompt with {END}: it is not T5's tokenizer")
    if vocab_size is not None and tokenizer.get_vocab_size() > vocab_size:
        raise CheckpointError(
            f"{path} has {tokenizer.get_vocab_size()} tokens, but the text encoder has embeddings for {vocab_size}"
        )
    return data


def _convert(folder: Path) -> bytes:
    """Return tokenizer.json for the spiece.model in `folder`, by transformers' own converter."""
    from transformers import T5Tokenizer  # takes seconds to import, and only old folders need it

    return T5Tokenizer.from_pretrained(folder).backend_tokenizer.to_str().encode()
