"""Token ids equal those of transformers' T5 tokenizer, made from a SentencePiece model as the published one is."""

import io
import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import T5Tokenizer

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.runtime.tokenizer import PromptTokenizer

LENGTH = 256
TEXT = [
    "a red fox runs through the snow at dawn",
    "waves break on black rocks, slow motion, 4k",
    "the camera pans left",
]


@cache
def theirs() -> T5Tokenizer:
    """A small vocabulary with T5's ids 0 1 2 = <pad> </s> <unk>, and SentencePiece's normalisation of Unicode."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 4),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spiece.model").write_bytes(model.getvalue())
        return T5Tokenizer.from_pretrained(folder)


@cache
def tokenizer_json() -> bytes:
    saved: str = theirs().backend_tokenizer.to_str()
    return saved.encode()


@cache
def ours() -> PromptTokenizer:
    return PromptTokenizer(tokenizer_json(), LENGTH)


def test_the_normaliser_is_that_of_sentencepiece() -> None:
    """Without it the comparison would say little about Unicode."""
    assert json.loads(tokenizer_json())["normalizer"] is not None


def check(prompt: str) -> None:
    expected = theirs()(prompt, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np")
    ids, mask = ours().encode(prompt)
    assert ids.dtype == np.int32 and mask.dtype == np.bool_
    np.testing.assert_array_equal(ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"].astype(bool))


@pytest.mark.parametrize(
    "prompt", [*TEXT, " ", "\n", "Ünïcödé 狐 🦊 ﬁ ① é\u200b", "<pad> </s> in the text", "fox " * 400]
)
def test_equals_transformers(prompt: str) -> None:
    check(prompt)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_equals_transformers_on_any_text(prompt: str) -> None:
    check(prompt)


def test_truncation_keeps_the_end_token() -> None:
    ids, mask = ours().encode("fox " * 400)
    assert mask.all()
    assert ids[0, -1] == 1
    assert 1 not in ids[0, :-1]


def test_empty_prompt_attends_to_nothing() -> None:
    ids, mask = ours().encode("")
    assert ids.shape == mask.shape == (1, LENGTH)
    assert not ids.any() and not mask.any()


def test_settings_in_the_file_do_not_matter() -> None:
    """A tokenizer.json may carry a padding and a truncation of its own."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json())
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=7, pad_id=2, direction="left")
    saved = PromptTokenizer(tokenizer.to_str().encode(), LENGTH)
    for seen, expected in zip(saved.encode(TEXT[0]), ours().encode(TEXT[0]), strict=True):
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("data", [b"", b"not json", json.dumps({"model": 1}).encode()])
def test_a_broken_file_is_one_line(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^the bundle's tokenizer.json cannot be read \([^\n]*\); compile it again$"):
        PromptTokenizer(data, LENGTH)
