"""What is here already: files and shards of other bundles, by their hashes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import MANIFEST_PATH
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.reusable import StoredBytes
from mochi_aot.artifacts.schema import File


class LocalStore:
    """Finds bytes in bundles on this machine. What it finds is not checked: whoever takes it does that."""

    def __init__(self, bundles: Iterable[Bundle] = ()) -> None:
        self._files: dict[tuple[str, str], Path] = {}
        self._shards: dict[str, StoredBytes] = {}
        for bundle in bundles:
            files = bundle.manifest.files
            for file in files:
                self._files.setdefault((file.path, file.blake3), bundle.path / file.path)
            for shard in bundle.manifest.shards:
                place = bundle.path / files[shard.file].path
                self._shards.setdefault(shard.blake3, StoredBytes(place, shard.offset, shard.nbytes, shard.blake3))

    def file(self, file: File) -> Path | None:
        """Return where a whole file lies."""
        return self._files.get((file.path, file.blake3))

    def shard(self, digest: str) -> StoredBytes | None:
        """Return where a shard lies."""
        return self._shards.get(digest)


def bundles_in(folder: Path) -> Iterator[Bundle]:
    """Yield the bundle that a folder is, or those in it, of this format version. Raise BundleError if there is none."""
    if (folder / MANIFEST_PATH).exists():
        yield Bundle.open(folder)
        return
    found = 0
    for place in sorted(folder.glob(f"*/{MANIFEST_PATH}")):
        try:
            bundle = Bundle.open(place.parent)
        except BundleError:
            continue  # of another version, or not whole: there is nothing to take from it
        found += 1
        yield bundle
    if not found:
        raise BundleError(f"{folder} is no bundle, and has none in it")
