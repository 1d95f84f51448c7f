"""When values are used for the last time."""

from collections.abc import Collection, Hashable, Sequence


def dead_after[V: Hashable](steps: Sequence[Sequence[V]], kept: Collection[V]) -> list[list[V]]:
    """Return for each step the values that nothing needs after it, in the order in which the step names them.

    A step is the values that it reads and makes; one that it makes and nothing reads is dead at once. Values that are
    `kept` never die.
    """
    needed = set(kept)
    dead: list[list[V]] = []
    for values in reversed(steps):
        dying = [value for value in dict.fromkeys(values) if value not in needed]
        needed.update(dying)
        dead.append(dying)
    return dead[::-1]
