"""A bundle as one file: a tar of its files, each by itself behind zstd where that helps.

The same bundle with the same signatures gives the same bytes, with one version of zstd: members are in the manifest's
order, without times, owners or modes. The reader knows from the manifest, which comes first, what must follow, and
makes each header itself to compare: no name, size or kind of member is taken from the archive.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mochi_aot.artifacts.atomic_file import replacing
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.layout import HASH_HEX, MANIFEST_PATH, MAX_METADATA_BYTES
from mochi_aot.artifacts.pieces import Checker, Piece, pieces
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.schema import File
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.runtime.errors import ExtraMissingError
from mochi_aot.runtime.paths import check_writable
from mochi_aot.runtime.signatures import MAX_SIGNATURES, SIGNATURE_BYTES, SIGNATURE_FOLDER, signatures
from mochi_aot.tools.bundle.contents import Contents, blocks, read_contents

SUFFIX = ".zst"
# Of bfloat16 weights 78 % are left at level 1, at 0.9 GB/s of one core; level 9 gains 0.5 % and takes 16 times as long.
LEVEL = 1
WORTH = 0.95  # what is left of a file's beginning must be less, or the file is stored as it is
SAMPLE_BYTES = 4 << 20
_STEP = 1 << 20  # bytes of a member that are held at a time
WINDOW_BYTES = 8 << 20  # the most that the reader holds; level 1 asks for 512 KiB

type Progress = Callable[[int], None]


class Source(Protocol):
    """Whatever bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


def pack(bundle: Bundle, output: Path, force: bool, progress: Progress) -> int:
    """Write a bundle and its signatures to the file `output`, which appears whole or not at all; return its bytes.

    Each byte is checked on its way. `progress` is told the bytes that are done. Raise BundleError for a bundle that is
    damaged, OutputError for a place that is taken, and ExtraMissingError without zstandard.
    """
    check_writable(output, force)
    zstd = _zstd()
    manifest_path = bundle.path / MANIFEST_PATH
    data = b"".join(map(bytes, blocks(manifest_path)))
    contents = read_contents(data, str(manifest_path))
    with os_errors(f"write {output}"), replacing(output) as place:
        with place.open("xb") as file:
            _write_small(file, MANIFEST_PATH, contents.data)
            for name, signature in signatures(bundle.path).items():
                _write_small(file, f"{SIGNATURE_FOLDER}/{name}", signature)
            for item, file_pieces in zip(contents.manifest.files, pieces(contents.manifest), strict=True):
                _write_file(file, bundle.path / item.path, item, file_pieces, zstd, progress)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        return place.stat().st_size


def unpack(archive: Path, output: Path, force: bool, progress: Progress) -> Contents:
    """Write the bundle in the file `archive` to the folder `output`, whole or not at all; return what it is.

    Every byte is checked before the bundle appears. Raise BundleError for anything that `pack` does not write, and for
    a place that is taken.
    """
    zstd = _zstd()
    staged = StagedFolder(output.absolute(), force)
    staged.create()
    try:
        with os_errors(f"read {archive}"), open_regular(archive) as file:
            contents = _unpack_into(staged.folder, file, str(archive), zstd, progress)
        staged.publish()
    finally:
        staged.discard()
    return contents


def _unpack_into(folder: Path, file: BinaryIO, where: str, zstd: Any, progress: Progress) -> Contents:
    size = _read_header(file, (MANIFEST_PATH,), MAX_METADATA_BYTES, where)[1]
    contents = read_contents(_read_small(file, size, where), f"{where}: {MANIFEST_PATH}")
    _put(folder, MANIFEST_PATH, contents.data)
    found = 0
    header = _header_bytes(file, where)
    while (name := _signature_name(header)) is not None:
        found += 1
        if found > MAX_SIGNATURES:
            raise BundleError(f"{where}: more than {MAX_SIGNATURES} signatures")
        _check_header(header, (name,), SIGNATURE_BYTES, where)
        _put(folder, name, _read_small(file, SIGNATURE_BYTES, where))
        header = _header_bytes(file, where)
    for item, file_pieces in zip(contents.manifest.files, pieces(contents.manifest), strict=True):
        _read_file(file, header, folder, item, file_pieces, where, zstd)
        progress(item.nbytes)
        header = _header_bytes(file, where)
    if header + file.read(tarfile.BLOCKSIZE + 1) != bytes(2 * tarfile.BLOCKSIZE):
        raise BundleError(f"{where}: expected the end after {len(contents.manifest.files)} files, seen more, or less")
    return contents


# ---- writing


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _write_small(file: BinaryIO, name: str, data: bytes) -> None:
    file.write(_header(name, len(data)) + data + _padding(len(data)))


def _write_file(
    file: BinaryIO, place: Path, item: File, file_pieces: list[Piece], zstd: Any, progress: Progress
) -> None:
    """Write a member; its header comes last, when it is known what is left of it."""
    start, checker = file.tell(), Checker(file_pieces, str(place))
    compressed = _is_worth_it(place, zstd)
    file.write(bytes(tarfile.BLOCKSIZE))
    packer = zstd.ZstdCompressor(level=LEVEL).compressobj(size=item.nbytes) if compressed else None
    for block in blocks(place):
        checker.update(block)
        file.write(packer.compress(block) if packer else block)
        progress(len(block))
    checker.finish()
    if packer:
        file.write(packer.flush())
    size = file.tell() - start - tarfile.BLOCKSIZE
    file.write(_padding(size))
    file.seek(start)
    file.write(_header(item.path + (SUFFIX if compressed else ""), size))
    file.seek(0, 2)


def _is_worth_it(place: Path, zstd: Any) -> bool:
    with os_errors(f"read {place}"), open_regular(place) as file:
        sample = file.read(SAMPLE_BYTES)
    return len(zstd.ZstdCompressor(level=LEVEL).compress(sample)) < WORTH * len(sample)


# ---- reading


def _header_bytes(file: BinaryIO, where: str) -> bytes:
    data = file.read(tarfile.BLOCKSIZE)
    if len(data) != tarfile.BLOCKSIZE:
        raise BundleError(f"{where}: cut short")
    return data


def _read_header(file: BinaryIO, names: tuple[str, ...], most: int, where: str) -> tuple[str, int]:
    return _check_header(_header_bytes(file, where), names, most, where)


def _check_header(header: bytes, names: tuple[str, ...], most: int, where: str) -> tuple[str, int]:
    """Return which of `names` a header is of, and its size. Raise BundleError for all that is not written by `pack`."""
    try:
        size = tarfile.nti(header[124:136])  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        size = -1
    for name in names:
        if 0 <= size <= most and _header(name, size) == header:
            return name, size
    raise BundleError(f"{where}: expected {names[0]} of at most {most} bytes; not packed by mochi-bundle, or damaged")


def _signature_name(header: bytes) -> str | None:
    name = header[:100].rstrip(b"\0").decode("ascii", "replace")
    folder, _, last = name.partition("/")
    return name if folder == SIGNATURE_FOLDER and HASH_HEX.fullmatch(last) else None


def _read_small(file: BinaryIO, size: int, where: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise BundleError(f"{where}: cut short")
    _skip_padding(file, size, where)
    return data


def _skip_padding(file: BinaryIO, size: int, where: str) -> None:
    if file.read(-size % tarfile.BLOCKSIZE) != _padding(size):
        raise BundleError(f"{where}: cut short, or something lies between its files")


def _put(folder: Path, name: str, data: bytes) -> None:
    place = folder / name
    with os_errors(f"write {place}"):
        place.parent.mkdir(exist_ok=True)
        with place.open("xb") as file:
            file.write(data)


class _Limited:
    """The next `size` bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, none at the end."""
        data = self._file.read(min(size if size >= 0 else _STEP, self.left))
        self.left -= len(data)
        return data


def _read_file(
    file: BinaryIO, header: bytes, folder: Path, item: File, file_pieces: list[Piece], where: str, zstd: Any
) -> None:
    """Read a member into its place: no more bytes are made of it than the manifest says, whatever it holds."""
    most = item.nbytes + item.nbytes // 128 + 1024  # zstd's own bound on what does not get smaller is below
    name, size = _check_header(header, (item.path, item.path + SUFFIX), most, where)
    limited = _Limited(file, size)
    source: Source = limited
    if name != item.path:
        decompressor = zstd.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        source = decompressor.stream_reader(limited, read_size=1 << 16, read_across_frames=True)
    checker, place = Checker(file_pieces, f"{where}: {item.path}"), folder / item.path
    with os_errors(f"write {place}"):
        place.parent.mkdir(exist_ok=True)
        with place.open("xb") as target:
            try:
                while block := source.read(_STEP):
                    checker.update(memoryview(block))
                    target.write(block)
            except zstd.ZstdError as error:
                raise BundleError(f"{where}: {item.path}: cannot be decompressed: {error}") from None
    checker.finish()
    if limited.left:
        raise BundleError(f"{where}: {item.path}: more bytes than it has")
    _skip_padding(file, size, where)


def _zstd() -> Any:
    """Return the module zstandard, which takes 10 ms to import."""
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise ExtraMissingError("zstandard", "archives of bundles need it", "pip install 'mochi-aot[pack]'") from error
    return zstandard
