"""Prompts to token ids, as T5 wants them."""

import numpy as np
from tokenizers import Tokenizer

from mochi_aot.artifacts.errors import BundleError

PAD_ID = 0  # T5's <pad>


def empty_prompt(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids int32 [1, length], mask bool [1, length]) of the empty prompt: zeros, and no token to attend to.

    Genmo's inference code treats an empty prompt so, instead of as a lone </s>. It needs no tokenizer.
    """
    return np.zeros((1, length), np.int32), np.zeros((1, length), np.bool_)


class PromptTokenizer:
    """Encodes one prompt into exactly `length` ids."""

    def __init__(self, tokenizer_json: bytes, length: int) -> None:
        """`tokenizer_json`: the contents of a `tokenizers` file. Raise BundleError if it cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # tokenizers raises plain Exception
            message = str(error).partition("\n")[0]
            raise BundleError(f"the bundle's tokenizer.json cannot be read ({message}); compile it again") from error
        self._length = length
        self._tokenizer.enable_truncation(length)  # cuts the text, never the closing </s>
        self._tokenizer.enable_padding(length=length, pad_id=PAD_ID)

    def encode(self, prompt: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32 [1, length], mask bool [1, length], True at real tokens)."""
        if not prompt:
            return empty_prompt(self._length)
        encoding = self._tokenizer.encode(prompt)
        return np.array([encoding.ids], np.int32), np.array([encoding.attention_mask], np.bool_)

    def cut(self, prompt: str) -> str | None:
        """Return the end of a prompt that has more than `length` tokens with </s>, which `encode` leaves out."""
        pieces = self._tokenizer.encode(prompt).overflowing
        return prompt[pieces[0].offsets[0][0] :].strip() if pieces else None
