"""What the bytes of a bundle's files must be, checked as they pass: shard by shard, and zeros between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mochi_aot.artifacts.envelope import unpack
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.integrity import bundle_id, new_hash
from mochi_aot.artifacts.layout import MANIFEST_MAGIC, MAX_METADATA_BYTES, weight_path
from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.schema import File, Manifest
from mochi_aot.artifacts.validate import check_manifest

BLOCK_BYTES = 1 << 20  # that are held of a file at a time


@dataclass(frozen=True)
class Piece:
    """Bytes [offset, end) of a file with their hash; without one, zeros."""

    offset: int
    end: int
    digest: str | None


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


def pieces(manifest: Manifest) -> list[list[Piece]]:
    """Return for each file of a manifest the pieces that it consists of, in the order of their offsets."""
    shards: dict[int, list[Piece]] = {}
    for shard in manifest.shards:
        shards.setdefault(shard.file, []).append(Piece(shard.offset, shard.offset + shard.nbytes, shard.blake3))
    return [_pieces(file, shards.get(index, [])) for index, file in enumerate(manifest.files)]


def _pieces(file: File, shards: list[Piece]) -> list[Piece]:
    if file.path != weight_path(file.blake3):
        return [Piece(0, file.nbytes, file.blake3)]
    found: list[Piece] = []
    end = 0
    for piece in sorted(shards, key=lambda piece: piece.offset):
        if piece.offset > end:
            found.append(Piece(end, piece.offset, None))
        found.append(piece)
        end = piece.end
    if end < file.nbytes:
        found.append(Piece(end, file.nbytes, None))
    return found


class Checker:
    """Is given the bytes of a file from its beginning, and raises BundleError at the first piece that is another.

    `where` begins the message. `sound` is the end of the last piece that is known to be right.
    """

    def __init__(self, file_pieces: list[Piece], where: str) -> None:
        self._pieces, self._where = file_pieces, where
        self._index = self.sound = self._seen = 0
        self._digest = new_hash()

    def update(self, data: memoryview) -> None:
        """Check more bytes."""
        while len(data) > 0:
            if self._index == len(self._pieces):
                raise BundleError(f"{self._where}: more than {self.sound} bytes")
            piece = self._pieces[self._index]
            part = data[: piece.end - self._seen]
            if piece.digest is not None:
                self._digest.update(part)
            elif any(part):
                raise BundleError(f"{self._where}: expected zeros from byte {piece.offset} to {piece.end}")
            self._seen += len(part)
            data = data[len(part) :]
            if self._seen == piece.end:
                self._end_piece(piece)

    def finish(self) -> None:
        """Raise BundleError unless all of the file has passed."""
        if self._index < len(self._pieces):
            raise BundleError(f"{self._where}: cut short after {self._seen} of {self._pieces[-1].end} bytes")

    def _end_piece(self, piece: Piece) -> None:
        if piece.digest is not None and self._digest.hexdigest() != piece.digest:
            raise BundleError(f"{self._where}: bytes {piece.offset} to {piece.end} do not match their hash")
        self._digest = new_hash()
        self._index += 1
        self.sound = piece.end


def blocks(place: Path) -> Iterator[memoryview]:
    """Yield the bytes of a file in one buffer that is used again. Raise BundleError if it cannot be read."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with os_errors(f"read {place}"), open_regular(place, buffering=0) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            yield buffer[:count]
