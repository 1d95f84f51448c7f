"""Pulls a bundle: by content, resumed after a cut, each shard checked as it comes, published by a rename."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mochi_aot.artifacts.atomic_file import sync
from mochi_aot.artifacts.errors import BundleError, BundleExistsError, os_errors
from mochi_aot.artifacts.held_folder import hold
from mochi_aot.artifacts.layout import MANIFEST_PATH
from mochi_aot.artifacts.pieces import Checker, Piece, pieces
from mochi_aot.artifacts.reusable import StoredBytes, is_whole
from mochi_aot.artifacts.schema import File
from mochi_aot.artifacts.staging import StagedFolder, check_bundle_place
from mochi_aot.artifacts.weight_file import link_or_copy
from mochi_aot.runtime.errors import SignatureError
from mochi_aot.runtime.signatures import SIGNATURE_BYTES, SIGNATURE_FOLDER, PublicKey, check_signatures
from mochi_aot.tools.bundle.contents import Contents, blocks, read_contents
from mochi_aot.tools.bundle.local import LocalStore
from mochi_aot.tools.bundle.remote import Progress, RemoteError, Source

RETRIES = 5  # in a row, without a byte between them
FIRST_WAIT = 0.5  # seconds, doubled from one retry to the next


@dataclass(frozen=True)
class Wanted:
    """What a bundle must be to be pulled: its id, and keys of which one must have signed it; nothing: anything."""

    id: str | None = None
    keys: Sequence[PublicKey] = ()


@dataclass
class Pulled:
    """A bundle that was pulled, and how many of its bytes came from where."""

    contents: Contents
    moved: int = 0
    local: int = 0
    signers: list[PublicKey] = field(default_factory=list)


def pull(
    source: Source, where: str, output: Path, force: bool, wanted: Wanted, local: LocalStore, progress: Progress
) -> Pulled:
    """Write the bundle at a source, which is called `where`, to the folder `output`, whole or not at all.

    What `local` has is linked, or copied. After any end but success what has come stays beside `output`, in a private
    folder `.NAME.pull`, and the next pull goes on from there. `progress` is told of all bytes, wherever they are from.

    Raise RemoteError when the source fails again and again, BundleError for what is not a whole bundle or a place that
    is taken, and SignatureError for a bundle that is not wanted, before anything large has moved.
    """
    check_bundle_place(output, force)
    contents = read_contents(source.manifest(), f"{where}: {MANIFEST_PATH}")
    found = source.signatures([key.fingerprint for key in wanted.keys])
    pulled = Pulled(contents, signers=_check_wanted(contents, found, wanted, where))
    progress(len(contents.data))
    with _partial_folder(output) as folder:
        for file, file_pieces in zip(contents.manifest.files, pieces(contents.manifest), strict=True):
            _Fetch(source, where, folder, local, pulled, progress).file(file, file_pieces)
        _publish(folder, output, force, contents, found)
    return pulled


def _check_wanted(contents: Contents, found: dict[str, bytes], wanted: Wanted, where: str) -> list[PublicKey]:
    if wanted.id is not None and contents.id != wanted.id.strip().lower():
        raise SignatureError(f"{where}: expected the bundle {wanted.id}, seen {contents.id}")
    if any(len(data) != SIGNATURE_BYTES for data in found.values()):
        raise SignatureError(f"{where}: a signature that is not of {SIGNATURE_BYTES} bytes")
    if not wanted.keys:
        return []

    def signature(name: str) -> bytes:
        if name not in found:
            raise FileNotFoundError(name)
        return found[name]

    return check_signatures(contents.id, signature, wanted.keys, where)


@dataclass
class _Fetch:
    """Brings files into the private folder."""

    source: Source
    where: str
    folder: Path
    local: LocalStore
    pulled: Pulled
    progress: Progress

    def file(self, file: File, file_pieces: list[Piece]) -> None:
        """Have a file at its place in the folder, right in every byte."""
        place = self.folder / file.path
        with os_errors(f"write {place}"):
            place.parent.mkdir(exist_ok=True)
        found = self.local.file(file)
        if _is_right(place, file_pieces):  # of a pull that was stopped
            self.progress(file.nbytes)
        elif found is not None and _is_right(found, file_pieces):
            with os_errors(f"write {place}"):
                place.unlink(missing_ok=True)
                link_or_copy(found, place)
            self._count_local(file.nbytes)
        else:
            self._assemble(file, file_pieces, place)

    def _assemble(self, file: File, file_pieces: list[Piece], place: Path) -> None:
        """Make a file of the part that is there, of what other files here have, and of what the source has."""
        part = place.with_name(place.name + ".part")
        checker = _checked_part(part, file_pieces, f"{self.where}: {file.path}")
        with os_errors(f"write {part}"), part.open("ab") as target:
            self.progress(target.tell())
            for run in _runs(file_pieces, target.tell(), self.local):
                data = self._found(run.stored, target.tell()) if run.stored else self._fetched(file, target.tell(), run)
                for block in data:
                    _add(target, checker, block)
                    self.progress(len(block))
            checker.finish()
        with os_errors(f"write {place}"):
            sync(part)
            part.rename(place)

    def _found(self, stored: tuple[Piece, StoredBytes], begin: int) -> Iterator[memoryview]:
        piece, bytes_here = stored
        for block in blocks(bytes_here.place, bytes_here.offset + begin - piece.offset, piece.end - begin):
            yield block
            self.pulled.local += len(block)

    def _fetched(self, file: File, begin: int, run: "_Run") -> Iterator[memoryview]:
        """Yield what the source has, from `begin` on, and ask again from where it broke off."""
        failures = 0
        while begin < run.end:
            try:
                for block in self.source.read(file, begin, run.end):
                    yield memoryview(block)
                    begin += len(block)
                    self.pulled.moved += len(block)
                    failures = 0
                if begin < run.end:
                    raise RemoteError(f"{self.where}: {file.path}: broken off at byte {begin} of {run.end}")
            except RemoteError:
                failures += 1
                if failures > RETRIES:
                    raise
                time.sleep(FIRST_WAIT * 2 ** (failures - 1))

    def _count_local(self, nbytes: int) -> None:
        self.pulled.local += nbytes
        self.progress(nbytes)


@dataclass(frozen=True)
class _Run:
    """Bytes up to `end` that come from one place: a piece that is stored here, or, without, the source."""

    end: int
    stored: tuple[Piece, StoredBytes] | None = None


def _runs(file_pieces: list[Piece], begin: int, local: LocalStore) -> Iterator[_Run]:
    """Yield what is needed from byte `begin` on, in order; neighbours that the source has are one request."""
    end = begin
    for piece in file_pieces:
        if piece.end <= begin:
            continue
        stored = local.shard(piece.digest) if piece.digest is not None else None
        if stored is not None and is_whole(stored):
            if end > begin:
                yield _Run(end)
            yield _Run(piece.end, (piece, stored))
            begin = piece.end
        end = piece.end
    if end > begin:
        yield _Run(end)


def _add(target: BinaryIO, checker: Checker, block: memoryview) -> None:
    """Write bytes that follow; of a piece that turns out to be wrong nothing stays, so that it is asked for again."""
    try:
        checker.update(block)
    except BundleError:
        target.truncate(checker.sound)
        raise
    target.write(block)


def _checked_part(part: Path, file_pieces: list[Piece], where: str) -> Checker:
    """Return what has seen the part of a file that is there, which is cut to what of it is right."""
    if not part.exists():
        return Checker(file_pieces, where)
    checker = Checker(file_pieces, where)
    try:
        for block in blocks(part):
            checker.update(block)
        return checker
    except BundleError:
        with os_errors(f"write {part}"):
            os.truncate(part, checker.sound)
        return _checked_part(part, file_pieces, where)


def _is_right(place: Path, file_pieces: list[Piece]) -> bool:
    if not place.is_file() or place.stat().st_size != file_pieces[-1].end:
        return False
    checker = Checker(file_pieces, str(place))
    try:
        for block in blocks(place):
            checker.update(block)
        checker.finish()
    except BundleError:
        return False
    return True


@contextmanager
def _partial_folder(output: Path) -> Iterator[Path]:
    """Give the folder in which a pull to `output` collects, for this process alone; after an exception it stays.

    Raise BundleExistsError if another process is at it, and BundleError for a folder that is somebody else's.
    """
    path = output.absolute()
    with os_errors(f"write in {path.parent}"):
        try:
            held = hold(path.parent / f".{path.name}.pull")
        except BlockingIOError:
            raise BundleExistsError(
                f"another pull to {output} is at work; wait for it, or choose another path"
            ) from None
    try:
        yield held.path
    except BaseException:
        held.release()
        raise
    held.remove()


def _publish(folder: Path, output: Path, force: bool, contents: Contents, signatures: dict[str, bytes]) -> None:
    staged = StagedFolder(output.absolute(), force)
    staged.create()
    try:
        small = {MANIFEST_PATH: contents.data}
        small |= {f"{SIGNATURE_FOLDER}/{name}": data for name, data in signatures.items()}
        with os_errors(f"write {output}"):
            for name, data in small.items():
                (staged.folder / name).parent.mkdir(exist_ok=True)
                (staged.folder / name).write_bytes(data)
            for file in contents.manifest.files:
                (staged.folder / file.path).parent.mkdir(exist_ok=True)
                _link_or_move(folder / file.path, staged.folder / file.path)
        staged.publish()
    finally:
        staged.discard()


def _link_or_move(source: Path, place: Path) -> None:
    """Have a file at `place`; where the file system has links, it stays where it was too, until all is published."""
    try:
        os.link(source, place)
    except OSError:
        source.rename(place)
