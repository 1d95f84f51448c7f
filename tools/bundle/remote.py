"""Where bundles are pulled from and pushed to: what every such place can do, and how it fails."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from mochi_aot.artifacts.errors import BundleError, ExitCode, MochiError
from mochi_aot.artifacts.pieces import Piece
from mochi_aot.artifacts.schema import File
from mochi_aot.tools.bundle.contents import Contents

type Progress = Callable[[int], None]


class RemoteError(MochiError):
    """A server, or the way to it, that failed; to try again may help."""

    exit_code = ExitCode.SYSTEM


class UrlError(MochiError):
    """A URL that names no place that bundles can be moved to or from."""

    exit_code = ExitCode.USAGE


class Source(Protocol):
    """A place that bundles are pulled from. Methods raise RemoteError, and BundleError for what is not there."""

    def manifest(self) -> bytes:
        """Return the bytes of the bundle's manifest, or, of larger files, more than a manifest may have."""

    def signatures(self, wanted: Iterable[str]) -> dict[str, bytes]:
        """Return the signatures that are there by fingerprint; where they cannot be listed, those that are wanted."""

    def read(self, file: File, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes [start, end) of a file, or of fewer; never more."""


class Sink(Protocol):
    """A place that bundles are pushed to. Methods raise RemoteError."""

    def begin(self, contents: Contents, force: bool) -> None:
        """Raise BundleExistsError where another bundle is, unless `force` is set."""

    def put(self, item: File, place: Path, file_pieces: list[Piece], progress: Progress) -> int:
        """Have a file there, checked on its way; return the bytes that had to be sent.

        `progress` is told of all of them. Raise BundleError for a file that is damaged.
        """

    def publish(self, contents: Contents, signatures: dict[str, bytes]) -> None:
        """Make the bundle appear, when all its files are there."""


def only(data: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield at most `size` bytes of what comes."""
    for block in data:
        yield block[:size]
        size -= len(block)
        if size <= 0:
            return


def not_there(url: str) -> BundleError:
    """Return the error of a URL at which there is no bundle."""
    return BundleError(f"{url}: no bundle is there; expected one, as `mochi-bundle push` leaves it")
