"""Changes to a tree of plain values (None, bool, int, float, str, list, dict), such as a fuzzer makes."""

import copy
import random
from typing import Any

Tree = Any
# (container, key): a place in a tree.
Place = tuple[Any, Any]

NUMBERS = [0, 1, -1, 2, 7, 31, 32, 127, 255, 256, 4095, 4096, 65535, 65536, 65537, 1 << 24, (1 << 31) - 1, 1 << 31]
NUMBERS += [1 << 40, (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), 10**30]
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")]
TEXTS = [
    *("", "a", "float32", "bfloat16", "bfloat8_b", "float8", "uint8", "bool", "torch", "ttnn"),
    *("decode", "denoise", "latents"),
]
TEXTS += ["../..", "/etc/passwd", "a\x1b[2J", "a\nb", "\0", "\ud800", "\u202e", "0" * 64, "x" * 5000, "frames", "1e999"]
ATOMS = [None, True, False, [], {}, [[]], *NUMBERS, *FLOATS, *TEXTS]
_DEEPER = 0.85  # how often a container is entered rather than changed itself


def a_place(tree: Tree, choice: random.Random) -> Place | None:
    """Return a place in a tree, not its root, by going down at random; None where there is none."""
    place = None
    while isinstance(tree, dict | list) and tree and (place is None or choice.random() < _DEEPER):
        key = choice.choice(list(tree)) if isinstance(tree, dict) else choice.randrange(len(tree))
        place, tree = (tree, key), tree[key]
    return place


def mutate(tree: Tree, choice: random.Random) -> Tree:
    """Return a tree with one to four changes, made in place where they are not the whole of it."""
    for _ in range(choice.choice((1, 1, 1, 2, 2, 3, 4))):
        place = a_place(tree, choice)
        if place is None:
            return copy.deepcopy(choice.choice(ATOMS))
        choice.choice(_CHANGES)(place, tree, choice)
    return tree


def _other_value(place: Place, tree: Tree, choice: random.Random) -> None:
    """Another value of the same type."""
    node, key = place
    value = node[key]
    if isinstance(value, bool):
        node[key] = not value
    elif isinstance(value, int):
        node[key] = choice.choice([*NUMBERS, value + 1, value - 1, value * 2, value ^ 1 << choice.randrange(63)])
    elif isinstance(value, float):
        node[key] = choice.choice([*FLOATS, value * 2, -value])
    elif isinstance(value, str):
        node[key] = _other_text(value, choice)
    else:
        node[key] = copy.deepcopy(choice.choice(ATOMS))


def _other_text(value: str, choice: random.Random) -> str:
    at = choice.randrange(len(value) + 1)
    char = chr(choice.choice((0, 10, 27, 47, 65, 92, 0x20AC, 0xDC80, 0x1F98A)))
    return choice.choice((choice.choice(TEXTS), value[:at], value[:at] + char + value[at:], value * 2))


def _atom(place: Place, tree: Tree, choice: random.Random) -> None:
    node, key = place
    node[key] = copy.deepcopy(choice.choice(ATOMS))


def _graft(place: Place, tree: Tree, choice: random.Random) -> None:
    """What stands somewhere else in the tree."""
    node, key = place
    other = a_place(tree, choice)
    assert other is not None, "there is at least the place that is to be changed"
    node[key] = copy.deepcopy(other[0][other[1]])


def _remove(place: Place, tree: Tree, choice: random.Random) -> None:
    node, key = place
    del node[key]


def _repeat(place: Place, tree: Tree, choice: random.Random) -> None:
    node, key = place
    if isinstance(node, list):
        node[key:key] = [copy.deepcopy(node[key])] * choice.choice((1, 1, 2, 5))
    else:
        node[choice.choice(TEXTS)] = copy.deepcopy(node[key])


def _shuffle(place: Place, tree: Tree, choice: random.Random) -> None:
    node, _ = place
    if isinstance(node, list):
        choice.shuffle(node)


def _nest(place: Place, tree: Tree, choice: random.Random) -> None:
    node, key = place
    for _ in range(choice.choice((1, 2, 20, 200))):
        node[key] = [node[key]]


_CHANGES = (*[_other_value] * 4, _atom, _graft, _graft, _remove, _repeat, _shuffle, _nest)
