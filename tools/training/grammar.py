"""What a clip shows, in words: the scenes that there are, and the captions that describe them."""

from dataclasses import dataclass
from random import Random

COLOURS = {
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.55, 0.05),
    "yellow": (0.95, 0.90, 0.15),
    "green": (0.10, 0.65, 0.20),
    "cyan": (0.10, 0.80, 0.90),
    "blue": (0.15, 0.25, 0.95),
    "purple": (0.60, 0.15, 0.80),
    "white": (0.97, 0.97, 0.97),
}  # sRGB, 0 to 1
SHAPES = ("circle", "square", "triangle", "ring")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "turn", "bounce")
ROUND = ("circle", "ring")  # a turn of theirs cannot be seen
TONES = {"dark": 0.13, "gray": 0.40, "light": 0.68}  # of the background, 0 to 1
GROUNDS = ("plain", "graded", "striped")
SIZES = ("small", "large")
SPEEDS = ("slowly", "quickly")

_NOUNS = {
    "circle": ("circle", "circle", "disc", "disk"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "ring": ("ring", "ring", "hoop"),
}
# (third person, participle)
_GO = (("moves", "moving"), ("moves", "moving"), ("slides", "sliding"), ("goes", "going"), ("drifts", "drifting"))
_VERBS = {
    "left": _GO,
    "right": _GO,
    "up": (*_GO, ("rises", "rising"), ("climbs", "climbing")),
    "down": (*_GO, ("falls", "falling"), ("sinks", "sinking")),
    "grow": (("grows", "growing"), ("gets bigger", "getting bigger"), ("expands", "expanding")),
    "shrink": (("shrinks", "shrinking"), ("gets smaller", "getting smaller"), ("contracts", "contracting")),
    "turn": (("turns", "turning"), ("spins", "spinning"), ("rotates", "rotating")),
    "bounce": (("bounces", "bouncing"), ("jumps up and down", "jumping up and down")),
}
_WAYS = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "up": ("up", "upward"),
    "down": ("down", "downward"),
}
_GROUND_WORDS = {
    "plain": ("{} background", "plain {} background"),
    "graded": ("{} graded background", "{} background with a gradient"),
    "striped": ("{} striped background", "{} background with stripes"),
}
# What a caption begins with, and the form of the verb behind it: {0} third person, {1} participle.
_OPENINGS = (("", "{0}"), ("", "{0}"), ("a video of ", "{1}"), ("there is ", "{1}"), ("there is ", "that {0}"))
_PLACES = ("on", "over", "across", "against", "in front of")
NO_GROUND = 0.1  # how often a caption leaves the background out
HELD_OUT_OF = 10  # one colour, shape and motion in ten is kept out of training


@dataclass(frozen=True)
class Scene:
    """A clip's meaning. Words that are None are left open: the clip may have any size or speed."""

    colour: str
    shape: str
    motion: str
    tone: str
    ground: str
    size: str | None = None
    speed: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether the combination of colour, shape and motion is never trained on."""
        place = (tuple(COLOURS).index(self.colour), SHAPES.index(self.shape), MOTIONS.index(self.motion))
        return (place[0] + 3 * place[1] + 6 * place[2]) % HELD_OUT_OF == 0


def draw_scene(rng: Random, held_out: bool = False) -> Scene:
    """Return a scene at random, of the combinations for training or of those held out."""
    while True:
        scene = _any_scene(rng)
        if is_visible(scene) and scene.held_out == held_out:
            return scene


def _any_scene(rng: Random) -> Scene:
    motion = pick(rng, MOTIONS)
    sized = motion not in ("grow", "shrink") and rng.random() < 0.4
    return Scene(
        colour=pick(rng, tuple(COLOURS)),
        shape=pick(rng, SHAPES),
        motion=motion,
        tone=pick(rng, tuple(TONES)),
        ground=pick(rng, GROUNDS),
        size=pick(rng, SIZES) if sized else None,
        speed=pick(rng, SPEEDS) if rng.random() < 0.4 else None,
    )


def is_visible(scene: Scene) -> bool:
    """Whether one can see all that `scene` says."""
    if scene.motion == "turn" and scene.shape in ROUND:
        return False
    return not (scene.colour == "white" and scene.tone == "light")


def caption(scene: Scene, rng: Random) -> str:
    """One of the many wordings of `scene`."""
    opening, form = pick(rng, _OPENINGS)
    verb = pick(rng, _VERBS[scene.motion])
    way = pick(rng, _WAYS[scene.motion]) if verb in _GO else ""
    deed = " ".join(part for part in (form.format(*verb), way, scene.speed) if part)
    words = f"{opening}{_subject(scene, rng)} {deed}"
    if rng.random() >= NO_GROUND:
        place = f"{pick(rng, _PLACES)} a {pick(rng, _GROUND_WORDS[scene.ground]).format(scene.tone)}"
        words = f"{place}, {words}" if rng.random() < 0.2 else f"{words} {place}"
    return _written(words, rng)


def _subject(scene: Scene, rng: Random) -> str:
    words = [word for word in (scene.size, scene.colour, pick(rng, _NOUNS[scene.shape])) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def _written(words: str, rng: Random) -> str:
    """As it is, or as a sentence."""
    if rng.random() < 0.75:
        return words
    return words[0].upper() + words[1:] + "."


def pick[T](rng: Random, values: tuple[T, ...]) -> T:
    """One of `values`; unlike Random.choice the same in every version of Python."""
    return values[int(rng.random() * len(values))]
