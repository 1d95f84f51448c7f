"""Weights that an earlier compile has made: of a bundle, or of a compile that did not come to its end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts.integrity import hash_range
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.regular_file import open_regular


@dataclass(frozen=True)
class StoredBytes:
    """A shard, or a whole tensor file, and where it lies."""

    place: Path
    offset: int
    nbytes: int
    blake3: str


@dataclass(frozen=True)
class ReusableWeight:
    """A weight that was made: its distinct parts, and for each device which one it holds (none: a tensor file).

    `source` says what it was made of and how. Unless it is `synced` its parts may not have reached the disk, and count
    only if their hashes hold.
    """

    source: str
    name: str
    dtype: str
    local_shape: list[int]
    parts: list[StoredBytes]
    devices: list[int]
    synced: bool


class ReusableWeights:
    """Finds weights by what they were made of."""

    def __init__(self, made: Iterable[ReusableWeight] = ()) -> None:
        self._made: dict[str, list[ReusableWeight]] = {}
        self._names: set[str] = set()
        for weight in made:
            self._made.setdefault(weight.source, []).append(weight)
            self._names.add(weight.name)

    def has(self, name: str) -> bool:
        """Return whether there is any weight of this name, whatever it was made of."""
        return name in self._names

    def find(self, source: str) -> ReusableWeight | None:
        """Return a weight with this source whose bytes are there; those of a broken-off compile are hashed again."""
        for made in self._made.get(source, ()):
            if made.synced or all(map(is_whole, made.parts)):
                return made
        return None


def reusable_in_bundle(bundle: Bundle) -> Iterator[ReusableWeight]:
    """Yield the weights of a bundle that say what they were made of."""
    files, shards = bundle.manifest.files, bundle.manifest.shards
    for weight in bundle.manifest.weights:
        if not weight.source:
            continue
        if weight.file is not None:
            file = files[weight.file]
            parts = [StoredBytes(bundle.path.absolute() / file.path, 0, file.nbytes, file.blake3)]
            devices = []
        else:
            distinct = list(dict.fromkeys(weight.shards))
            places = [(shards[index], files[shards[index].file]) for index in distinct]
            parts = [StoredBytes(bundle.path.absolute() / f.path, s.offset, s.nbytes, s.blake3) for s, f in places]
            devices = [distinct.index(shard) for shard in weight.shards]
        yield ReusableWeight(weight.source, weight.name, weight.dtype, weight.local_shape, parts, devices, synced=True)


def is_whole(part: StoredBytes) -> bool:
    """Return whether the bytes are there and have their hash."""
    try:
        with open_regular(part.place, buffering=0) as file:
            return hash_range(file, part.offset, part.nbytes) == part.blake3
    except OSError:
        return False
