"""API keys: who may ask, how much, and how urgently."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.tools.serve.errors import KeysError, RequestError
from mochi_aot.tools.serve.settings import MAX_PRIORITY

_LEAST_LENGTH = 16


@dataclass(frozen=True)
class Caller:
    """Who sent a request; `jobs` may be unfinished at one time, None for as many as the queue takes."""

    name: str
    jobs: int | None = None
    priority: int = 0


class Keys:
    """The callers of a file of keys. Without a file everybody is one caller, who may ask for any priority."""

    def __init__(self, path: Path | None) -> None:
        """Raise KeysError for a file that cannot be understood, OSError for one that cannot be read."""
        self._callers = None if path is None else _read(path)

    def caller(self, authorization: str | None) -> Caller:
        """Return whose key a header Authorization has. Raise RequestError with status 401 for none that is known.

        Each comparison takes the same time, whatever is equal, and all of them are made.
        """
        if self._callers is None:
            return Caller("anybody", priority=MAX_PRIORITY)
        scheme, _, key = (authorization or "").partition(" ")
        digest = _digest(key.strip()) if scheme.lower() == "bearer" else b""
        found = [caller for known, caller in self._callers if hmac.compare_digest(known, digest)]
        if not found:
            raise RequestError(401, "no API key that is known here; send it as: Authorization: Bearer KEY")
        return found[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read(path: Path) -> list[tuple[bytes, Caller]]:
    """Return the digests of keys and their callers: lines of NAME KEY [jobs=N] [priority=N], and comments with #."""
    callers: list[tuple[bytes, Caller]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        place = f"{path}, line {number}"
        if len(words) < 2 or len(words[1]) < _LEAST_LENGTH:
            raise KeysError(f"{place}: expected NAME KEY [jobs=N] [priority=N], the key of {_LEAST_LENGTH} or more")
        if words[0] in {caller.name for _, caller in callers}:
            raise KeysError(f"{place}: {words[0]!r} has a key already")
        callers.append((_digest(words[1]), Caller(words[0], **_limits(place, words[2:]))))
    if not callers:
        raise KeysError(f"{path} has no key; give a line NAME KEY, or start without --api-keys")
    return callers


def _limits(place: str, words: list[str]) -> dict[str, int]:
    limits = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in ("jobs", "priority") or not value.isascii() or not value.isdigit() or int(value) > 10**6:
            raise KeysError(f"{place}: {word!r} is neither jobs=N nor priority=N")
        limits[name] = int(value)
    return limits
