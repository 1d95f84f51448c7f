"""Captions to token ids, by the tokenizer that is trained on the grammar."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from mochi_aot.compiler.checkpoint.word_tokenizer import trained_tokenizer
from mochi_aot.runtime.tokenizer import PromptTokenizer
from mochi_aot.tools.training.scenes import draw_clip

LENGTH = 32  # tokens; no caption has more, and what is masked has no influence, so that prompts may be longer later
SAMPLE = 20_000  # captions that the tokenizer is trained on


@cache
def caption_tokenizer() -> bytes:
    """tokenizer.json of the grammar's words, the same every time."""
    return trained_tokenizer(draw_clip(0, number).words for number in range(SAMPLE)).to_str().encode()


@cache
def _encoder() -> PromptTokenizer:
    return PromptTokenizer(caption_tokenizer(), LENGTH)


def encode_captions(captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids int32 [n, LENGTH] and their mask, bool [n, LENGTH]."""
    ids, masks = zip(*(_encoder().encode(text) for text in captions), strict=True)
    return np.concatenate(ids), np.concatenate(masks)
