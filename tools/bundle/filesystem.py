"""Places that fsspec knows: s3, hf, file, memory and what else is installed. Each has a bundle's folder as it is."""

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import BundleError, BundleExistsError, MochiError
from mochi_aot.artifacts.integrity import bundle_id
from mochi_aot.artifacts.layout import HASH_HEX, MANIFEST_PATH, MAX_METADATA_BYTES, TOKENIZER_PATH
from mochi_aot.artifacts.pieces import Checker, Piece
from mochi_aot.artifacts.schema import File
from mochi_aot.runtime.errors import ExtraMissingError
from mochi_aot.runtime.signatures import MAX_SIGNATURES, SIGNATURE_BYTES, SIGNATURE_FOLDER
from mochi_aot.tools.bundle.contents import Contents, blocks
from mochi_aot.tools.bundle.remote import Progress, RemoteError, UrlError, not_there

READ_BYTES = 8 << 20  # a request each


class _Place:
    """A folder of one of fsspec's file systems."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            scheme = url.partition("://")[0]
            package = getattr(error, "name", None) or f"the package for {scheme}://"
            raise ExtraMissingError(package, f"{scheme}:// needs it", str(error)) from error
        except ValueError as error:
            raise UrlError(f"{url}: {error}") from error
        self.root = root.rstrip("/")
        if not self.root:
            raise UrlError(f"{url}: expected the name of a bundle in it")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def errors(self, name: str = "") -> Iterator[None]:
        """Turn what a file system raises, which may be anything, into RemoteError."""
        try:
            yield
        except (MochiError, FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            said = getattr(error, "strerror", None) or str(error)  # its path is that of the URL
            reason = " ".join(said.split())[:300] or type(error).__name__
            raise RemoteError(f"{self.url}/{name}: {reason}") from error

    def small(self, name: str, most: int) -> bytes | None:
        """Return a small file, of a larger one the first `most` bytes and one more; None where there is none."""
        size = self.size(self.path(name))
        if size is None:
            return None
        with self.errors(name):
            return self.part(name, 0, min(size, most + 1))  # servers refuse ranges past the end

    def part(self, name: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of a file. Raise what the file system raises."""
        data: bytes = self.fs.cat_file(self.path(name), start=start, end=end)  # by name: s3fs has others before them
        return data

    def size(self, path: str) -> int | None:
        """Return the bytes of a file, by its whole path; None where there is none."""
        try:
            with self.errors():
                found = self.fs.info(path)
        except (FileNotFoundError, NotADirectoryError):  # the latter: a file lies beside bundles
            return None
        return found["size"] if found["type"] == "file" else None

    def names(self, path: str) -> list[str]:
        """Return the paths of what a folder has; none where there is none."""
        try:
            with self.errors():
                return sorted(self.fs.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []


class FilesystemSource:
    """See Source."""

    def __init__(self, url: str) -> None:
        self._place = _Place(url)

    def manifest(self) -> bytes:
        """See Source."""
        data = self._place.small(MANIFEST_PATH, MAX_METADATA_BYTES)
        if data is None:
            raise not_there(self._place.url)
        return data

    def signatures(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """See Source."""
        names = [posixpath.basename(path) for path in self._place.names(self._place.path(SIGNATURE_FOLDER))]
        known = [name for name in names if HASH_HEX.fullmatch(name)]
        chosen = {*known[:MAX_SIGNATURES], *({*known} & {*wanted})}
        found = {name: self._place.small(f"{SIGNATURE_FOLDER}/{name}", SIGNATURE_BYTES) for name in sorted(chosen)}
        return {name: data for name, data in found.items() if data is not None}

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """See Source."""
        for begin in range(start, end, READ_BYTES):
            stop = min(begin + READ_BYTES, end)
            try:
                with self._place.errors(file.path):
                    data = self._place.part(file.path, begin, stop)
            except FileNotFoundError:
                raise BundleError(f"{self._place.url}/{file.path} is not there: the bundle is not whole") from None
            yield data[: stop - begin]
            if len(data) < stop - begin:
                return


class FilesystemSink:
    """See Sink. A file that a bundle beside this one has, by the same hash and size, is copied there by the server.

    On this machine's own file systems what is there already is read first: only what is whole counts.
    """

    def __init__(self, url: str) -> None:
        self._place = _Place(url)
        self._beside: list[str] | None = None

    def begin(self, contents: Contents, force: bool) -> None:
        """See Sink."""
        there = self._place.small(MANIFEST_PATH, MAX_METADATA_BYTES)
        if there is not None and bundle_id(there) != contents.id and not force:
            raise BundleExistsError(f"{self._place.url} is another bundle; choose another URL, or use --force")

    def put(self, item: File, place: Path, file_pieces: list[Piece], progress: Progress) -> int:
        """See Sink."""
        target = self._place.path(item.path)
        named = item.path != TOKENIZER_PATH  # by its hash
        if named and (self._has(target, item, file_pieces) or self._copied(item, target, file_pieces)):
            progress(item.nbytes)
            return 0
        checker = Checker(file_pieces, str(place))
        with self._place.errors(item.path):
            self._place.fs.makedirs(posixpath.dirname(target), exist_ok=True)
            with _uncommitted(self._place.fs, target) as stream:
                for block in blocks(place):
                    checker.update(block)
                    stream.write(block)
                    progress(len(block))
                checker.finish()
        return item.nbytes

    def publish(self, contents: Contents, signatures: dict[str, bytes]) -> None:
        """See Sink. The manifest comes last: until then nothing there is a bundle."""
        files = {f"{SIGNATURE_FOLDER}/{name}": data for name, data in signatures.items()}
        for name, data in (*files.items(), (MANIFEST_PATH, contents.data)):
            with self._place.errors(name):
                self._place.fs.makedirs(posixpath.dirname(self._place.path(name)), exist_ok=True)
                with _uncommitted(self._place.fs, self._place.path(name)) as stream:
                    stream.write(data)

    def _has(self, path: str, item: File, file_pieces: list[Piece]) -> bool:
        """Return whether a file is there, whole as far as that can be seen without moving it."""
        if self._place.size(path) != item.nbytes:
            return False
        if not isinstance(self._place.fs, LocalFileSystem):
            return True
        checker = Checker(file_pieces, path)
        try:
            for block in blocks(Path(path)):
                checker.update(block)
            checker.finish()
        except BundleError:
            return False
        return True

    def _copied(self, item: File, target: str, file_pieces: list[Piece]) -> bool:
        """Return whether the server had the file with a bundle beside this one, and has copied it."""
        if self._beside is None:
            parent = posixpath.dirname(self._place.root)
            self._beside = [path for path in self._place.names(parent) if path.rstrip("/") != self._place.root]
        for folder in self._beside:
            path = f"{folder.rstrip('/')}/{item.path}"
            if self._has(path, item, file_pieces):
                with self._place.errors(item.path):
                    self._place.fs.makedirs(posixpath.dirname(target), exist_ok=True)
                    self._place.fs.cp_file(path, target)
                return self._place.size(target) == item.nbytes
        return False


@contextmanager
def _uncommitted(fs: Any, path: str) -> Iterator[Any]:
    """Give a stream to a file that appears at the end of the block, whole, and after an exception does not."""
    if isinstance(fs, LocalFileSystem):
        # fsspec would write to the folder of temporary files, and from there copy to another file system.
        with replacing(Path(path)) as place, place.open("wb") as file:
            yield file
        return
    stream = fs.open(path, "wb", autocommit=False)
    try:
        yield stream
        stream.close()
    except BaseException:
        with suppress(Exception):  # what has gone wrong first is what is told
            stream.discard()
        raise
    stream.commit()
