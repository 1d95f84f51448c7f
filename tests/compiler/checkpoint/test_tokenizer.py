import io
import json
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer
from transformers import T5Tokenizer

from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.tokenizer import find_tokenizer, load_tokenizer_json
from mochi_aot.compiler.checkpoint.word_tokenizer import word_tokenizer, write_tokenizer

PROMPTS = ["a red dog", "", "Waves, slowly rolling!", "  two   spaces ", "naïve café 東京", "a\nnew line", "ends</s>"]
CORPUS = """
a red dog runs over green grass while two cats sleep in warm light, and slow waves roll onto a white beach!
the camera turns slowly around an old stone tower; birds fly past, the sun sets, and shadows grow longer.
"""


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but a spiece.model, its special pieces numbered as T5's are."""
    folder = tmp_path_factory.mktemp("spiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")),
        model_writer=model,
        vocab_size=50,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    return folder


def test_tokenizer_json_is_taken_as_it_is(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "t", 256)
    assert load_tokenizer_json(tmp_path / "t") == (tmp_path / "t" / "tokenizer.json").read_bytes()


def test_spiece_is_converted_to_the_tokens_that_sentencepiece_gives(spiece: Path) -> None:
    tokenizer = Tokenizer.from_buffer(load_tokenizer_json(spiece))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(spiece / "spiece.model"))
    for prompt in PROMPTS[:-1]:  # sentencepiece knows no special tokens in a text
        assert tokenizer.encode(prompt).ids == [*reference.encode(prompt), reference.eos_id()], prompt


def test_spiece_is_converted_to_the_tokens_that_transformers_gives(spiece: Path) -> None:
    tokenizer = Tokenizer.from_buffer(load_tokenizer_json(spiece))
    reference = T5Tokenizer.from_pretrained(spiece)
    for prompt in PROMPTS:
        assert tokenizer.encode(prompt).ids == reference(prompt).input_ids, prompt


def test_the_word_tokenizer_is_shaped_like_t5s() -> None:
    tokenizer = word_tokenizer()
    assert [tokenizer.id_to_token(number) for number in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert tokenizer.encode("").ids == [1]
    assert tokenizer.encode("a red dog jumping").tokens == ["▁a", "▁red", "▁dog", "▁jumping", "</s>"]
    assert tokenizer.encode("é").ids[-2:] == [2, 1]
    assert tokenizer.decode(tokenizer.encode("Zebras, at 7!").ids) == "Zebras, at 7!"


def test_transformers_reads_the_word_tokenizer_alike(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "t", 256)
    reference = T5Tokenizer.from_pretrained(tmp_path / "t")
    assert (reference.pad_token_id, reference.eos_token_id, reference.model_max_length) == (0, 1, 256)
    for prompt in PROMPTS:
        assert word_tokenizer().encode(prompt).ids == reference(prompt).input_ids, prompt


def test_the_word_tokenizer_is_the_same_every_time() -> None:
    assert word_tokenizer().to_str() == word_tokenizer().to_str()


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", b""), ("tokenizer.json", b'{"model": 3}'), ("spiece.model", b"\0\1not a model")],
)
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} cannot be read as a tokenizer"):
        load_tokenizer_json(tmp_path)


def test_a_tokenizer_that_does_not_end_prompts(tmp_path: Path) -> None:
    fields = json.loads(word_tokenizer().to_str()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"does not end a prompt with </s>: it is not T5's"):
        load_tokenizer_json(tmp_path)


def test_the_first_folder_with_a_tokenizer(tmp_path: Path, spiece: Path) -> None:
    assert find_tokenizer([tmp_path, tmp_path / "gone", spiece]) == spiece
    with pytest.raises(CheckpointError, match="no tokenizer"):
        find_tokenizer([tmp_path])
