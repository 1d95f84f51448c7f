"""Token ids equal those of transformers' T5 tokenizer, made from a SentencePiece model as the published one is."""

import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from diffusers import MochiPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import T5Tokenizer

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.runtime.tokenizer import PromptTokenizer
from tests.runtime import toy_bundle

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


@pytest.mark.parametrize(
    ("foxes", "cut"),
    [(254, None), (255, "snow"), (256, "fox snow"), (400, "fox " * 145 + "snow")],  # 255 words and </s> have room
)
def test_what_is_cut_off(foxes: int, cut: str | None) -> None:
    tokenizer = PromptTokenizer(toy_bundle.tokenizer_json(), LENGTH)  # a token a word
    assert tokenizer.cut(" ".join(["fox"] * foxes) + " snow ") == cut


def test_what_is_kept_has_as_many_tokens_as_there_is_room_for() -> None:
    """By transformers' own count, on text that the tokenizer normalises to other characters."""
    prompt = " ".join(f"{text} ünïcödé ﬁ 狐" for text in TEXT * 12)
    cut = ours().cut(prompt)
    assert cut is not None and prompt.endswith(cut)
    kept = theirs()(prompt.removesuffix(cut))["input_ids"]
    assert len(kept) == LENGTH and kept == ours().encode(prompt)[0][0].tolist()


def test_empty_prompt_attends_to_nothing() -> None:
    ids, mask = ours().encode("")
    assert ids.shape == mask.shape == (1, LENGTH)
    assert not ids.any() and not mask.any()


def diffusers_inputs(prompt: str, force_zeros: bool) -> list[np.ndarray]:
    """Ids and mask that diffusers' pipeline gives to the text encoder; for it each of the two prompts is a call."""
    given: list[np.ndarray] = []

    class Encoder:
        dtype = torch.float32

        def __call__(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
            given.extend([ids.numpy(), attention_mask.numpy()])
            return [torch.zeros(1, LENGTH, 8)]

    pipeline = SimpleNamespace(
        text_encoder=Encoder(), tokenizer=theirs(), config=SimpleNamespace(force_zeros_for_empty_prompt=force_zeros)
    )
    MochiPipeline._get_t5_prompt_embeds(pipeline, [prompt], max_sequence_length=LENGTH, device="cpu")
    return given


@pytest.mark.parametrize("prompt", ["", " ", "a red fox"])
def test_prompts_are_those_of_diffusers_with_zeros_for_an_empty_one(prompt: str) -> None:
    for seen, expected in zip(ours().encode(prompt), diffusers_inputs(prompt, force_zeros=True), strict=True):
        np.testing.assert_array_equal(seen, expected)
    assert ours().encode(" ")[1].sum() == 1  # a lone </s>


def test_by_default_diffusers_attends_to_the_end_token_of_an_empty_prompt() -> None:
    """As docs/prompts.md says, and as this project does not."""
    ids, mask = diffusers_inputs("", force_zeros=False)
    assert ids[0].nonzero()[0].tolist() == mask[0].nonzero()[0].tolist() == [0] and ids[0, 0] == 1


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
    with pytest.raises(BundleError, match=r"^the bundle's tokenizer.json cannot be used \([^\n]*\); compile it again$"):
        PromptTokenizer(data, LENGTH)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(tokenizer_json())
    change(fields)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
            "index out of bounds",
        ),
        (lambda t: t["post_processor"].update(special_tokens={}), "no entry found for key"),
        (lambda t: t["post_processor"]["special_tokens"]["</s>"].update(ids=[1 << 31]), "ids up to 2147483648"),
        (lambda t: t["post_processor"]["special_tokens"]["</s>"].update(ids=[60]), "ids up to 60 of a prompt"),
        (
            lambda t: t["post_processor"]["special_tokens"]["</s>"].update(ids=[1] * 300, tokens=["</s>"] * 300),
            "it makes [0-9]+ ids up to",
        ),
    ],
)
def test_a_tokenizer_that_panics_or_makes_impossible_ids(data: Callable[[dict[str, Any]], object], reason: str) -> None:
    """The library's panics are no Exception: nothing but this would catch them on their way out of the process."""
    message = rf"^the bundle's tokenizer.json cannot be used \(.*{reason}.*\); compile it again$"
    with pytest.raises(BundleError, match=message):
        PromptTokenizer(changed(data), LENGTH, vocabulary=60).encode("a red fox")
