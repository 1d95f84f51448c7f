"""What a tokenizer.json may cost is bounded before the library sees it; T5's own parts pass."""

import base64
import json
import os
import struct
import subprocess
import sys
from typing import Any

import pytest

from mochi_aot.artifacts.tokenizer_limits import MAX_BYTES, check_tokenizer

END = {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
SINGLE = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]


def charsmap(longest: int) -> dict[str, Any]:
    """SentencePiece's: a trie of 1024 bytes, and texts, one of them of so many bytes."""
    blob = struct.pack("<I", 1024) + bytes(1024) + b"ab\0" + b"x" * longest + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}


def replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def tokenizer(**fields: Any) -> dict[str, Any]:
    """Parts as transformers 4 and 5 make them of T5's spiece.model."""
    model = {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁fox", -3.5]]}
    steps = [
        charsmap(33),
        {"type": "Strip", "strip_left": False, "strip_right": True},
        replace({"Regex": " {2,}"}, "▁"),
    ]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    found: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "post_processor": {"type": "TemplateProcessing", "single": SINGLE, "pair": [], "special_tokens": END},
        "decoder": space,
        "model": model,
    }
    return found | fields


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def model(**fields: Any) -> dict[str, Any]:
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]], **fields}}


def test_what_t5_has_is_accepted() -> None:
    check_tokenizer(json.dumps(tokenizer()).encode())
    for kind in ("WordLevel", "WordPiece", "BPE"):
        check_tokenizer(json.dumps(tokenizer(**model(type=kind, vocab={"a": 0, "b": 1}, merges=["a b"]))).encode())
    check_tokenizer(json.dumps(tokenizer(normalizer=None, **model(type="BPE", merges=[["a", "b"]]))).encode())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"normalizer": charsmap(200)}, "more than 128 bytes of one"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "cut short"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}}, "no base64"),
        ({"normalizer": replace({"String": "a"}, "b" * 129)}, "more than 128 bytes of one"),
        ({"normalizer": replace({"String": ""}, "b" * 128)}, "more than 128 bytes of one"),
        ({"normalizer": sequence(*[replace({"String": "a"}, "aa")] * 8)}, "more than 128 bytes of one"),
        ({"normalizer": sequence(charsmap(33), replace({"Regex": "a"}, "bcdef"))}, "more than 128 bytes of one"),
        ({"normalizer": sequence(*[{"type": "NFKD"}] * 3)}, "more than 128 bytes of one"),
        ({"normalizer": sequence(*[{"type": "Strip"}] * 32)}, "more than 32 components"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Strip"}] * 33}}, "normalizer: normalizers"),
        ({"normalizer": sequence(sequence(sequence(sequence({"type": "Strip"}))))}, "nested too deeply"),
        ({"normalizer": replace({"Regex": "(a|a)*$"}, "b")}, "more than linear time"),
        ({"normalizer": replace({"Regex": "a*a*a*b"}, "b")}, "more than linear time"),
        ({"normalizer": replace({"Regex": "a{1000}"}, "b")}, "more than linear time"),
        ({"normalizer": replace({"Regex": "a{1,9}{1,9}"}, "b")}, "more than linear time"),
        ({"normalizer": replace("a", "b")}, "a pattern that is none"),
        ({"normalizer": {"type": "Script"}}, "a component of the kind 'Script'"),
        ({"normalizer": []}, "a component of the kind"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}}, "a component of the kind 'Split'"),
        ({"decoder": replace({"Regex": "(((a{9}){9}){9}){9}"}, "b")}, "more than linear time"),
        ({"post_processor": {"type": "TemplateProcessing", "single": SINGLE * 600}}, "more than 1024 values"),
        ({"truncation": {"direction": "x" * 257}}, "a text of more than 256"),
        ({"added_tokens": [{"content": "a"}] * 2049}, "more than 2048 added_tokens"),
        ({"added_tokens": {"a": 1}}, "added_tokens that are no list"),
        ({"more": 1}, "fields that no tokenizer has"),
        (model(vocab=[["a" * 65, 0.0]]), "vocab of more than 64 characters"),
        (model(vocab=[[f"{index:064}", 0.0] for index in range(1 << 14)] + [["a", 0.0]]), "1048576 bytes in all"),
        (model(vocab=[["😀" * 64, 0.0]] * 4097), "1048576 bytes in all"),
        (model(vocab=[["a", 0.0]] * ((1 << 18) + 1)), "expected at most 262144"),
        (model(vocab=[["a"]]), "no pair"),
        (model(vocab=[[1, 0.0]]), "no texts"),
        (model(vocab=None), "a vocabulary that is none"),
        (model(type="BPE", merges=["a b"] * ((1 << 18) + 1)), "merges, expected at most 262144"),
        (model(type="BPE", merges=[1]), "merges that are no texts"),
        (model(type="BPE", merges="a b"), "merges that are no list"),
        (model(type="WordPiece", max_input_chars_per_word=1001), "max_input_chars_per_word"),
        (model(type="Other"), "a component of the kind 'Other'"),
        ({"model": None}, "no model"),
    ],
)
def test_what_could_cost_more_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_tokenizer(json.dumps(tokenizer(**fields)).encode())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b" " * (MAX_BYTES + 1), "expected at most 16777216"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": {"type": "BPE"}, "model": {"type": "Unigram"}}', "named twice"),  # the library takes one of them
        (b"[1]", "fields that no tokenizer has"),
        (b"no", "Expecting value"),
        (b"\xff", "codec"),
        (b'{"version": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_files_that_are_none(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_tokenizer(data)


# The largest vocabulary that is accepted, of tokens with no common beginnings, in a process of its own; prints the most
# memory in bytes. Then the most values that JSON can have in a file of the largest size.
WORST = """
import json, random
from mochi_aot.artifacts.memory import peak_memory
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.tokenizer_limits import MAX_BYTES
from mochi_aot.runtime.tokenizer import PromptTokenizer
from tests.artifacts.test_tokenizer_limits import model, tokenizer
letters = [chr(0x10000 + index) for index in range(256)]
choose = random.Random(1).choices
vocab = [["</s>", 0.0], ["</s>", 0.0]] + [["".join(choose(letters, k=64)), -1.0] for _ in range((1 << 20) // 256 - 1)]
longest = json.dumps(tokenizer(normalizer=None, **model(vocab=vocab)), ensure_ascii=False).encode()
PromptTokenizer(longest, 8).encode("a red fox")
try:
    PromptTokenizer(b"[" + b"[]," * ((MAX_BYTES - 3) // 3) + b"1]", 8)
except BundleError as error:
    assert "fields that no tokenizer has" in str(error)
    print(peak_memory())
"""


def test_the_most_that_is_accepted_takes_less_than_a_gigabyte() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORST],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RUST_BACKTRACE": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert 10**7 < int(done.stdout) < 10**9
