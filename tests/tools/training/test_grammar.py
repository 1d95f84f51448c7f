"""Captions say what their scene is, in many ways, and every word of theirs is known to the tokenizer."""

from itertools import pairwise
from random import Random

from tokenizers import Tokenizer

from mochi_aot.tools.training.captions import LENGTH, caption_tokenizer, encode_captions
from mochi_aot.tools.training.grammar import COLOURS, MOTIONS, SHAPES, Scene, caption, draw_scene
from mochi_aot.tools.training.models import SMALL

COUNT = 2000


def captions(count: int = COUNT) -> list[tuple[Scene, str]]:
    rng = Random(3)
    scenes = [draw_scene(rng, held_out=bool(number % 2)) for number in range(count)]
    return [(scene, caption(scene, rng)) for scene in scenes]


def test_a_caption_names_what_is_seen() -> None:
    nouns = {"circle": {"circle", "disc", "disk"}, "square": {"square", "box"}, "ring": {"ring", "hoop"}}
    for scene, words in captions():
        said = set(words.lower().replace(",", "").replace(".", "").split())
        assert scene.colour in said
        assert said & nouns.get(scene.shape, {scene.shape})
        assert {word for word in (scene.size, scene.speed) if word} <= said
        others = (set(COLOURS) | {"small", "large", "slowly", "quickly"}) - {scene.colour, scene.size, scene.speed}
        assert not said & others, words


def test_directions_are_never_mistaken() -> None:
    contrary = {"left": "right", "right": "left", "up": "down", "down": "up"}
    for scene, words in captions():
        if scene.motion in contrary:
            assert contrary[scene.motion] not in words.replace("upright", "").split(), words


def test_one_scene_has_many_wordings() -> None:
    scene, rng = Scene("red", "circle", "left", "dark", "plain"), Random(0)
    found = {caption(scene, rng) for _ in range(3000)}
    assert len(found) > 100
    assert "a red circle moves left across a dark background" in found


def test_articles_fit() -> None:
    for _, words in captions():
        spoken = words.lower().split()
        for article, word in pairwise(spoken):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), words


def test_no_combination_is_trained_on_and_held_out() -> None:
    rng = Random(1)
    trained, held = (
        {(s.colour, s.shape, s.motion) for s in (draw_scene(rng, held_out) for _ in range(5000))}
        for held_out in (False, True)
    )
    assert not trained & held
    # 8 x 4 x 8 combinations, less the turns of circles and rings.
    assert len(trained | held) == 240 and 20 <= len(held) <= 28
    for index, names in enumerate((COLOURS, SHAPES, MOTIONS)):
        assert {triple[index] for triple in held} == set(names)


def test_what_cannot_be_seen_is_not_drawn() -> None:
    rng = Random(2)
    for _ in range(3000):
        scene = draw_scene(rng)
        assert not (scene.motion == "turn" and scene.shape in ("circle", "ring"))
        assert not (scene.colour == "white" and scene.tone == "light")


def test_every_caption_is_known_and_short() -> None:
    tokenizer = Tokenizer.from_buffer(caption_tokenizer())
    assert tokenizer.get_vocab_size() <= SMALL.text.vocab_size
    for _, words in captions(500):
        encoding = tokenizer.encode(words)
        assert len(encoding.ids) <= LENGTH and "<unk>" not in encoding.tokens and encoding.tokens[-1] == "</s>"
        whole = words.replace(",", " ,").replace(".", " .").split()
        assert [token.removeprefix("\u2581") for token in encoding.tokens[:-1]] == whole


def test_an_unknown_word_is_spelt() -> None:
    ids, mask = encode_captions(["a red fox", ""])
    assert ids.shape == mask.shape == (2, LENGTH) and ids.dtype == "int32"
    assert mask.sum(axis=1).tolist() == [2 + len("_fox") + 1, 0]  # an empty caption has no token at all
