"""Changes to a file: most in its tree, some in its bytes."""

import random

from tests.fuzz.forms import Form
from tests.fuzz.trees import mutate

MAX_BYTES = 1 << 16


def mutated(data: bytes, form: Form, seed: int, others: list[bytes] | None = None) -> bytes:
    """Return a changed file. The same arguments give the same file."""
    choice = random.Random(seed)
    if choice.random() < 0.15:
        return _bytes_mutated(data, choice)
    try:
        return form.build(mutate(form.parse(data), choice))[:MAX_BYTES]
    except Exception:  # noqa: BLE001  no file of this kind, or a tree that is none any more
        return _bytes_mutated(data, choice)


def _bytes_mutated(data: bytes, choice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(choice.choice((1, 1, 2, 8))):
        at = choice.randrange(len(changed) + 1)
        kind = choice.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << choice.randrange(8)
        elif kind == 1:
            changed[at:at] = choice.randbytes(choice.choice((1, 4, 16)))
        elif kind == 2:
            del changed[at : at + choice.choice((1, 4, 64))]
        else:
            changed[at : at + 4] = choice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xdd\xff\xff\xff", b"\x90" * 4))
    return bytes(changed[:MAX_BYTES])
