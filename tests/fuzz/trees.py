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
TEXTS = ["", "a", "float32", "bfloat16", "bfloat8_b", "uint8", "bool", "torch", "ttnn", "decode", "denoise", "latents"]
TEXTS += ["../..", "/etc/passwd", "a\x1b[2J", "a\nb", "\0", "\ud800", "\u202e", "0" * 64, "x" * 5000, "frames", "1e999"]
ATOMS = [None, True, False, [], {}, [[]], *NUMBERS, *FLOATS, *TEXTS]


def places(tree: Tree) -> list[Place]:
    """Return every place in a tree but its root."""
    found: list[Place] = []
    open_ = [tree]
    while open_:
        node = open_.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            open_.append(node[key])
    return found


def mutate(tree: Tree, choice: random.Random) -> Tree:
    """Return a tree with one to four changes; the argument stays as it is."""
    tree = copy.deepcopy(tree)
    for _ in range(choice.choice((1, 1, 1, 2, 2, 3, 4))):
        found = places(tree)
        if not found:
            return choice.choice(ATOMS)
        place = choice.choice(found)
        choice.choice(_CHANGES)(place, found, choice)
    return tree


def _other_value(place: Place, found: list[Place], choice: random.Random) -> None:
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
        node[key] = choice.choice(ATOMS)


def _other_text(value: str, choice: random.Random) -> str:
    at = choice.randrange(len(value) + 1)
    char = chr(choice.choice((0, 10, 27, 47, 65, 92, 0x20AC, 0xDC80, 0x1F98A)))
    return choice.choice((choice.choice(TEXTS), value[:at], value[:at] + char + value[at:], value * 2))


def _atom(place: Place, found: list[Place], choice: random.Random) -> None:
    node, key = place
    node[key] = copy.deepcopy(choice.choice(ATOMS))


def _graft(place: Place, found: list[Place], choice: random.Random) -> None:
    """What stands somewhere else in the tree."""
    node, key = place
    other, name = choice.choice(found)
    if name in other if isinstance(other, dict) else name < len(other):
        node[key] = copy.deepcopy(other[name])


def _remove(place: Place, found: list[Place], choice: random.Random) -> None:
    node, key = place
    del node[key]


def _repeat(place: Place, found: list[Place], choice: random.Random) -> None:
    node, key = place
    if isinstance(node, list):
        node[key:key] = [copy.deepcopy(node[key])] * choice.choice((1, 1, 2, 20))
    else:
        node[choice.choice(TEXTS)] = copy.deepcopy(node[key])


def _shuffle(place: Place, found: list[Place], choice: random.Random) -> None:
    node, _ = place
    if isinstance(node, list):
        choice.shuffle(node)


def _nest(place: Place, found: list[Place], choice: random.Random) -> None:
    node, key = place
    for _ in range(choice.choice((1, 2, 20, 200))):
        node[key] = [node[key]]


_CHANGES = (*[_other_value] * 4, _atom, _graft, _graft, _remove, _repeat, _shuffle, _nest)
