"""Small tokenizers of T5's kind: whole words, and letters for the rest.

Neither is made by the trainer of `tokenizers`, which gives another vocabulary in every process.
"""

import json
import math
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1 and 2, as in T5
SPACE = "▁"

_WORDS = """
a an the of in on at over under with and or to from by into through across near behind above below between around
is are be it its this that very slow slowly fast quickly still moving
camera shot close up wide aerial view angle motion pan zoom tracking handheld cinematic documentary film video scene
light lighting dark bright soft warm cold shadow glow reflection neon golden silver color colorful
red orange yellow green blue purple pink white black brown gray
sun sunset sunrise moon star stars sky cloud clouds rain snow storm wind fog mist day night morning evening
sea ocean wave waves beach shore river lake waterfall water drop drops ice fire smoke steam dust sand
mountain mountains hill valley forest tree trees leaf leaves flower flowers grass field garden desert island rock
city street road bridge building house window door castle tower market station train car bus boat ship plane rocket
man woman child girl boy people crowd face eyes hand hands hair dress hat
cat dog horse bird fish lion tiger bear fox rabbit owl eagle whale turtle butterfly bee dragon robot astronaut
run runs running walk walks walking fly flies flying swim swims swimming dance dances dancing jump jumps jumping
sit sits sitting stand stands standing look looks looking fall falls falling rise rises turn turns play plays playing
old young new small little big large tiny giant beautiful quiet busy empty ancient modern
one two three many some few glass wood metal stone paper coffee cup table chair book lemon apple bread
photorealistic realistic animated painting watercolor style detailed high low quality blurry
"""
ENDINGS = ("ing", "ed", "er", "es", "s", "ly")

_WORD, _ENDING, _CHARACTER = -6.0, -8.0, -12.0  # log probabilities: whole words win over endings, those over letters


def word_tokenizer() -> Tokenizer:
    """Return a tokenizer for common words of video prompts.

    Characters outside ASCII are unknown; a prompt ends with </s>.
    """
    pieces = {SPACE + word: _WORD for word in _WORDS.split()}
    pieces |= dict.fromkeys(ENDINGS, _ENDING)
    return _unigram(pieces)


def trained_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of the words in `captions`, each with the logarithm of its frequency, and of letters for the
    rest."""
    counts = Counter(word for text in captions for word in text.replace(",", " ").replace(".", " ").split())
    total = counts.total()
    return _unigram({SPACE + word: math.log(counts[word] / total) for word in sorted(counts)})


def _unigram(words: dict[str, float]) -> Tokenizer:
    """Return T5's kind of tokenizer from log probabilities of `words`, the special tokens and single characters."""
    pieces = {PAD: 0.0, END: 0.0, UNKNOWN: 0.0} | words
    pieces |= dict.fromkeys([SPACE, *string.ascii_letters, *string.digits, *string.punctuation], _CHARACTER)
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=ids[UNKNOWN], byte_fallback=False))
    tokenizer.add_special_tokens([PAD, END, UNKNOWN])
    split = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split])
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, ids[END])]
    )
    return tokenizer


def write_tokenizer(folder: Path, text_length: int, tokenizer_json: bytes | None = None) -> None:
    """Write tokenizer.json, and transformers' config for prompts of up to `text_length` tokens.

    `tokenizer_json`: the file's contents, the tokenizer of common words unless given.
    """
    fields: dict[str, Any] = {
        "tokenizer_class": "T5Tokenizer",
        "model_max_length": text_length,
        "pad_token": PAD,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "extra_ids": 0,
        "additional_special_tokens": [],
    }
    folder.mkdir()
    data = word_tokenizer().to_str(pretty=True).encode() if tokenizer_json is None else tokenizer_json
    (folder / "tokenizer.json").write_bytes(data)
    (folder / "tokenizer_config.json").write_text(json.dumps(fields, indent=2) + "\n")
