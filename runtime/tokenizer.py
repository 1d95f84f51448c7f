"""Prompts to token ids, as T5 wants them."""

import numpy as np
from tokenizers import Tokenizer

from mochi_aot.artifacts.errors import BundleError, library_errors
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.tokenizer_limits import check_tokenizer

PAD_ID = 0  # T5's <pad>


def empty_prompt(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids int32 [1, length], mask bool [1, length]) of the empty prompt: zeros, and no token to attend to.

    Genmo's inference code treats an empty prompt so, instead of as a lone </s>. It needs no tokenizer.
    """
    return np.zeros((1, length), np.int32), np.zeros((1, length), np.bool_)


def open_tokenizer(bundle: Bundle) -> "PromptTokenizer":
    """Return a bundle's tokenizer. Raise BundleError if it has none, or it cannot be used."""
    text = bundle.manifest.model.get("text")
    size = text.get("vocab_size") if isinstance(text, dict) else None  # rows that the encoder has embeddings in
    known = {"vocabulary": size} if isinstance(size, int) else {}
    return PromptTokenizer(bundle.tokenizer(), bundle.manifest.text_length, **known)


class PromptTokenizer:
    """Encodes one prompt into exactly `length` ids."""

    def __init__(self, tokenizer_json: bytes, length: int, vocabulary: int = np.iinfo(np.int32).max) -> None:
        """`tokenizer_json`: the contents of a `tokenizers` file; its ids are to be below `vocabulary`.

        Raise BundleError if it cannot be read.
        """
        self._length, self._vocabulary = length, vocabulary
        with library_errors(_refusal):
            check_tokenizer(tokenizer_json)
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
            self._tokenizer.enable_truncation(length)  # cuts the text, never the closing </s>
            self._tokenizer.enable_padding(length=length, pad_id=PAD_ID)

    def encode(self, prompt: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32 [1, length], mask bool [1, length], True at real tokens).

        Raise BundleError if the tokenizer makes something else of the prompt.
        """
        if not prompt:
            return empty_prompt(self._length)
        with library_errors(_refusal):
            encoding = self._tokenizer.encode(prompt)
        ids, mask = encoding.ids, encoding.attention_mask
        if not len(ids) == len(mask) == self._length or max(ids) >= self._vocabulary:
            raise _refusal(f"it makes {len(ids)} ids up to {max(ids, default=0)} of a prompt")
        return np.array([ids], np.int32), np.array([mask], np.bool_)

    def cut(self, prompt: str) -> str | None:
        """Return the end of a prompt that has more than `length` tokens with </s>, which `encode` leaves out.

        Raise BundleError as `encode`.
        """
        with library_errors(_refusal):
            pieces = self._tokenizer.encode(prompt).overflowing
            return prompt[pieces[0].offsets[0][0] :].strip() if pieces else None


def _refusal(reason: str) -> BundleError:
    return BundleError(f"the bundle's tokenizer.json cannot be used ({reason}); compile it again")
