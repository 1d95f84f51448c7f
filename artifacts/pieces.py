"""What the bytes of a bundle's files must be, checked as they pass: shard by shard, and zeros between them."""

from dataclasses import dataclass

from mochi_aot.artifacts.delta_schema import Delta
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.integrity import new_hash
from mochi_aot.artifacts.layout import weight_path
from mochi_aot.artifacts.schema import File, Manifest

REMEDY = "; copy or compile the bundle again"


@dataclass(frozen=True)
class Piece:
    """Bytes [offset, end) of a file with their hash; without one, zeros. `whose` names the weights that they are."""

    offset: int
    end: int
    digest: str | None
    whose: str = ""


def pieces(manifest: Manifest | Delta) -> list[list[Piece]]:
    """Return for each file of a manifest, or a delta, the pieces that it consists of, in the order of their offsets."""
    owners: list[dict[str, None]] = [{} for _ in manifest.shards]
    for weight in manifest.weights:
        for index in weight.shards:
            owners[index][weight.name] = None
    shards: dict[int, list[Piece]] = {}
    for shard, names in zip(manifest.shards, owners, strict=True):
        piece = Piece(shard.offset, shard.offset + shard.nbytes, shard.blake3, f" of {', '.join(names)}")
        shards.setdefault(shard.file, []).append(piece)
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
        self._digest = new_hash(all_processors=True)

    def update(self, data: memoryview) -> None:
        """Check more bytes."""
        while len(data) > 0:
            if self._index == len(self._pieces):
                raise BundleError(f"{self._where}: more than {self.sound} bytes{REMEDY}")
            piece = self._pieces[self._index]
            part = data[: piece.end - self._seen]
            if piece.digest is not None:
                self._digest.update(part)
            elif any(part):
                raise BundleError(f"{self._where}: expected zeros from byte {piece.offset} to {piece.end}{REMEDY}")
            self._seen += len(part)
            data = data[len(part) :]
            if self._seen == piece.end:
                self._end_piece(piece)

    def finish(self) -> None:
        """Raise BundleError unless all of the file has passed."""
        if self._index < len(self._pieces):
            raise BundleError(f"{self._where}: cut short after {self._seen} of {self._pieces[-1].end} bytes{REMEDY}")

    def _end_piece(self, piece: Piece) -> None:
        if piece.digest is not None and self._digest.hexdigest() != piece.digest:
            what = f"bytes {piece.offset} to {piece.end}{piece.whose}"
            raise BundleError(f"{self._where}: {what} do not match their hash{REMEDY}")
        self._digest = new_hash(all_processors=True)
        self._index += 1
        self.sound = piece.end
