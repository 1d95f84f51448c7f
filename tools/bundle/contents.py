"""A manifest wherever it comes from, and the bytes of files, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts.envelope import unpack
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.integrity import bundle_id
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MAX_METADATA_BYTES
from mochi_aot.artifacts.regular_file import open_regular, read_blocks
from mochi_aot.artifacts.schema import Manifest
from mochi_aot.artifacts.validate import check_manifest


@dataclass(frozen=True)
class Contents:
    """A manifest that is known to be whole, with its bytes and the bundle's id."""

    data: bytes
    manifest: Manifest
    id: str

    @property
    def nbytes(self) -> int:
        """Bytes of the whole bundle."""
        return len(self.data) + sum(file.nbytes for file in self.manifest.files)


def read_contents(data: bytes, where: str) -> Contents:
    """Return what a manifest's bytes say. Raise BundleError where they are none, damaged, or of another version."""
    if len(data) > MAX_METADATA_BYTES:
        raise BundleError(f"{where}: more than {MAX_METADATA_BYTES} bytes, which no manifest has")
    manifest = unpack(MANIFEST_MAGIC, Manifest, data, where)
    check_manifest(manifest, where)
    return Contents(data, manifest, bundle_id(data))


def blocks(place: Path, start: int = 0, nbytes: int | None = None) -> Iterator[memoryview]:
    """Yield bytes of a file in one buffer that is used again, see `read_blocks`.

    Raise BundleError if they cannot be read.
    """
    with os_errors(f"read {place}"), open_regular(place, buffering=0) as file:
        yield from read_blocks(file, start, nbytes)
