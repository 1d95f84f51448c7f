"""What a tokenizer.json may hold, so that neither reading it nor a prompt costs more than T5's tokenizer can.

The `tokenizers` library has no bounds of its own: a normalizer can make gigabytes of a prompt, and a regular expression
take hours. So the file is compared with what tokenizers of T5's kind are made of, before the library sees it: kinds of
components, how much longer each makes a text, expressions that match in linear time, and sizes of the vocabulary.
"""

import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_BYTES = 16 << 20  # of the file; T5's has 2.4 MB
MAX_TOKENS = 1 << 18  # in the vocabulary; T5's has 32,100
MAX_TOKEN_BYTES = 1 << 20  # of all tokens of the vocabulary together; Unigram's tree takes 350 for each
MAX_MERGES = 1 << 18
MAX_ADDED = 1 << 11
MAX_TOKEN = 64  # characters, of which Unigram tries all that begin at a place; T5's longest has 16
MAX_TEXT = 256  # characters of any other text
MAX_COMPONENTS = 32
MAX_GROWTH = 1 << 7  # bytes that the normalizers may make of one; T5's 66
MAX_SMALL = 1 << 10  # values in a component
MAX_WORD = 1000  # characters, of which WordPiece tries all beginnings

_COMMON = {"Sequence", "ByteLevel"}
_KINDS: dict[str, set[str]] = {
    "normalizer": {"Sequence", "Precompiled", "Replace", "Prepend", "Strip", "StripAccents", "NFC", "NFD", "NFKC"}
    | {"NFKD", "Lowercase", "Nmt", "BertNormalizer"},
    "pre_tokenizer": _COMMON
    | {"Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "Digits", "CharDelimiterSplit"}
    | {"UnicodeScripts"},
    "post_processor": _COMMON | {"TemplateProcessing", "BertProcessing", "RobertaProcessing"},
    "decoder": _COMMON | {"Metaspace", "Replace", "Fuse", "Strip", "ByteFallback", "WordPiece", "BPEDecoder", "CTC"},
    "model": {"Unigram", "WordLevel", "WordPiece", "BPE"},
}
_CHILDREN = {"normalizers", "pretokenizers", "processors", "decoders"}
_FIELDS = {"version", "truncation", "padding", "added_tokens", *_KINDS}
# The most bytes that one becomes: NFKD makes 33 of three (U+FDFA), BertNormalizer sets Chinese between spaces.
_GROWTH = dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD"), 11) | {"BertNormalizer": 3, "Lowercase": 3}
# Only what is last may be repeated, so nothing is tried twice: matching takes as long as the text.
_ATOM = r"(?:[^()|*+?{}\[\]^$.\\]|\\[^0-9A-Za-z]|\\[sSdDwW]|\[\^?[^\[\]\\&^-]{1,64}\])"
_REPEATED = re.compile(r"(?:(?<!\\)\+|(?<!\\)\{([0-9]{1,2})(?:,[0-9]{0,2})?\})$")
_LINEAR = re.compile(rf"{_ATOM}{{1,16}}(?:\+|\{{[0-9]{{1,2}}(?:,[0-9]{{0,2}})?\}})?")


def check_tokenizer(data: bytes) -> None:
    """Raise ValueError, saying what was seen, for a tokenizer.json that is not of the kind described above."""
    _require(len(data) <= MAX_BYTES, f"{len(data)} bytes, expected at most {MAX_BYTES}")
    try:
        fields = json.loads(data, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _require(isinstance(fields, dict) and fields.keys() <= _FIELDS, "fields that no tokenizer has")
    for field in ("version", "truncation", "padding"):
        _check_small(fields.get(field), field)
    _check_added(fields.get("added_tokens"))
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        components = list(_components(fields.get(part), part))
        _require(len(components) <= MAX_COMPONENTS, f"{part}: more than {MAX_COMPONENTS} components")
        growth = 1
        for component in components:
            growth *= _checked_growth(component, part)
            _require(growth <= MAX_GROWTH, f"{part}: it can make more than {MAX_GROWTH} bytes of one")
    _check_model(fields.get("model"))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a map. Raise ValueError for a key that is named twice, of which the library may take the other one."""
    found = dict(pairs)
    _require(len(found) == len(pairs), "a key that is named twice")
    return found


def _components(value: Any, part: str, depth: int = 4) -> Iterable[Mapping[str, Any]]:
    """Yield the components of a part, those in sequences too."""
    if value is None:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    _require(isinstance(kind, str) and kind in _KINDS[part], f"{part}: a component of the kind {str(kind)[:40]!r}")
    _require(depth > 0, f"{part}: nested too deeply")
    yield value
    for name in _CHILDREN & value.keys():
        _require(isinstance(value[name], list) and len(value[name]) <= MAX_COMPONENTS, f"{part}: {name}")
        for child in value[name]:
            yield from _components(child, part, depth - 1)


def _checked_growth(component: Mapping[str, Any], part: str) -> int:
    """Return how many bytes a component can make of one."""
    kind = component["type"]
    if kind == "Precompiled":
        return _longest_replacement(component.get("precompiled_charsmap"))
    _check_small({name: value for name, value in component.items() if name not in _CHILDREN}, f"{part}: {kind}")
    if kind == "Replace":
        pattern = component.get("pattern")
        _require(isinstance(pattern, dict), f"{part}: a pattern that is none")
        assert isinstance(pattern, dict)
        expression = pattern.get("Regex", "x")
        linear = isinstance(expression, str) and _LINEAR.fullmatch(expression) is not None
        _require(linear, f"{part}: the expression {str(expression)[:40]!r}, which may take more than linear time")
        least, content = _least_match(pattern), str(component.get("content")).encode("utf-8", "surrogatepass")
        return -(-len(content) // least) if least else 1 + len(content)
    return _GROWTH.get(kind, 1)


def _least_match(pattern: Mapping[str, Any]) -> int:
    """Return the fewest bytes that a pattern matches."""
    if "Regex" not in pattern:
        return len(str(pattern.get("String")).encode("utf-8", "surrogatepass"))
    atoms = len(re.findall(_ATOM, _REPEATED.sub("", pattern["Regex"])))
    repeated = _REPEATED.search(pattern["Regex"])
    return atoms - 1 + (int(repeated[1] or 1) if repeated else 1)


def _longest_replacement(charsmap: Any) -> int:
    """Return the most bytes that SentencePiece's map of characters makes of one: the longest of its texts.

    The map is a size of four bytes, little-endian, a trie of that size, and texts that end with zeros.
    """
    try:
        blob = binascii.a2b_base64(charsmap, strict_mode=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("normalizer: a precompiled_charsmap that is no base64") from None
    start = 4 + int.from_bytes(blob[:4], "little")
    _require(len(blob) >= 4 and start <= len(blob), "normalizer: a precompiled_charsmap that is cut short")
    return max(1, *map(len, blob[start:].split(b"\0")))


def _check_small(value: Any, where: str) -> None:
    """Check that there are few values, and short texts."""
    count, open_ = 0, [value]
    while open_:
        item = open_.pop()
        count += 1
        _require(count <= MAX_SMALL, f"{where}: more than {MAX_SMALL} values")
        if isinstance(item, dict):
            open_ += [*item, *item.values()]
        elif isinstance(item, list):
            open_ += item[:MAX_SMALL]
        _require(not isinstance(item, str) or len(item) <= MAX_TEXT, f"{where}: a text of more than {MAX_TEXT}")


def _check_added(added: Any) -> None:
    _require(added is None or isinstance(added, list), "added_tokens that are no list")
    _require(len(added or ()) <= MAX_ADDED, f"more than {MAX_ADDED} added_tokens")
    for token in added or ():
        _check_small(token, "added_tokens")


def _check_model(model: Any) -> None:
    _require(next(iter(_components(model, "model")), None) is not None, "no model")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):
        pairs = all(type(entry) is list and len(entry) == 2 for entry in vocabulary)
        _require(pairs, "model: an entry of the vocabulary that is no pair")
        tokens = [token for token, _ in vocabulary]
    else:
        _require(isinstance(vocabulary, dict), "model: a vocabulary that is none")
        tokens = list(vocabulary)
    _check_texts(tokens, "vocab", MAX_TOKENS, MAX_TOKEN)
    merges = model.get("merges") or []
    _require(isinstance(merges, list), "model: merges that are no list")
    texts = [" ".join(map(str, merge[:3])) if isinstance(merge, list) else merge for merge in merges]
    _check_texts(texts, "merges", MAX_MERGES, 2 * MAX_TOKEN + 1)
    _check_small({name: value for name, value in model.items() if name not in ("vocab", "merges")}, "model")
    word = model.get("max_input_chars_per_word", 0)
    _require(isinstance(word, int) and word <= MAX_WORD, f"model: max_input_chars_per_word above {MAX_WORD}")


def _check_texts(texts: list[Any], where: str, most: int, longest: int) -> None:
    """Check texts by their number, their lengths and the sum of these."""
    _require(len(texts) <= most, f"model: {len(texts)} {where}, expected at most {most}")
    _require(all(type(text) is str for text in texts), f"model: {where} that are no texts")
    lengths = list(map(len, texts))
    total = len("".join(texts).encode("utf-8", "surrogatepass"))
    problem = f"model: {where} of more than {longest} characters, or {MAX_TOKEN_BYTES} bytes in all"
    _require(max(lengths, default=0) <= longest and total <= MAX_TOKEN_BYTES, problem)
