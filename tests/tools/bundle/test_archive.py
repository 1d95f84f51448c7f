"""Packing and unpacking: what tar and zstd by themselves make of an archive, and archives that are not as written."""

import io
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner

from mochi_aot.artifacts.errors import BundleError, BundleExistsError
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.errors import OutputExistsError
from mochi_aot.tools.bundle.archive import SUFFIX, pack, unpack
from mochi_aot.tools.commands.bundle import main
from tests.artifacts import samples
from tests.tools.bundle.made import SIGNATURE, silent, tree, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_bundle(tmp_path_factory.mktemp("made") / "b"))


@pytest.fixture(scope="module")
def packed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("packed") / "b.tar"
    assert pack(bundle, place, False, silent) == place.stat().st_size
    return place.read_bytes()


def test_there_and_back(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(packed)
    assert unpack(tmp_path / "b.tar", tmp_path / "b", False, silent).id == bundle.id
    assert tree(tmp_path / "b") == tree(bundle.path)
    assert Bundle.open(tmp_path / "b").id == bundle.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.tar"]


def test_it_is_a_tar_of_zstd_files(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    """By two programs that know nothing of bundles; what zstd cannot make smaller is there as it is."""
    (tmp_path / "b.tar").write_bytes(packed)
    listed = subprocess.run(["tar", "-tf", tmp_path / "b.tar"], check=True, capture_output=True, text=True).stdout
    assert listed.splitlines()[:2] == ["manifest.msgpack", SIGNATURE]
    found = {}
    with tarfile.open(tmp_path / "b.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.mode, member.uname) == (0, 0, 0o644, "")
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            name = member.name.removesuffix(SUFFIX)
            found[name] = zstandard.ZstdDecompressor().decompress(data) if name != member.name else data
    assert found == tree(bundle.path)
    stored = {name for name in listed.split() if name.endswith(".bin")}
    smaller = {name for name in listed.split() if name.endswith(".bin.zst")}
    assert len(stored) == 2 and len(smaller) == 3


def test_equal_bundles_give_equal_bytes(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    for path, data in tree(bundle.path).items():
        place = tmp_path / "copy" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (1, 1))
        place.chmod(0o600)
    pack(Bundle.open(tmp_path / "copy"), tmp_path / "b.tar", False, silent)
    assert (tmp_path / "b.tar").read_bytes() == packed


def test_a_damaged_bundle_is_not_packed(bundle: Bundle, tmp_path: Path) -> None:
    for path, data in tree(bundle.path).items():
        place = tmp_path / "copy" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes([data[0] ^ 1]) + data[1:] if path.endswith(".bin") else data)
    with pytest.raises(BundleError, match="do not match their hash"):
        pack(Bundle.open(tmp_path / "copy"), tmp_path / "b.tar", False, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_nothing_is_replaced_unasked(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(packed)
    with pytest.raises(OutputExistsError):
        pack(bundle, tmp_path / "b.tar", False, silent)
    samples.write_bundle(tmp_path / "b")
    with pytest.raises(BundleExistsError):
        unpack(tmp_path / "b.tar", tmp_path / "b", False, silent)
    unpack(tmp_path / "b.tar", tmp_path / "b", True, silent)
    assert Bundle.open(tmp_path / "b").id == bundle.id


def refused(data: bytes, tmp_path: Path) -> str:
    """The error that an archive gives, which leaves nothing."""
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        unpack(tmp_path / "bad.tar", tmp_path / "out", False, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar"]
    return str(caught.value)


def test_every_cut_is_seen(packed: bytes, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = {0, 1, 511, 512, 513, len(packed) - 1, len(packed) - 512, len(packed) - 1024}
    for length in sorted(lengths | {int(n) for n in random.integers(0, len(packed), 40)}):
        refused(packed[:length], tmp_path)
    assert "seen more" in refused(packed + b"\0", tmp_path)


def test_every_flipped_bit_is_seen_or_means_nothing(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    """Bits of zstd's frames may have no meaning, and a signature is checked by whoever trusts its key: what comes out
    must be the bundle."""
    random, wanted = np.random.default_rng(1), tree(bundle.path)
    wanted.pop(SIGNATURE)
    (seen, same) = (0, 0)
    for bit in random.integers(0, len(packed) * 8, 100):
        data = bytearray(packed)
        data[bit // 8] ^= 1 << (bit % 8)
        (tmp_path / "bad.tar").write_bytes(data)
        try:
            unpack(tmp_path / "bad.tar", tmp_path / "out", True, silent)
            found = tree(tmp_path / "out")
            found.pop(SIGNATURE)
            assert found == wanted
            same += 1
        except BundleError:
            seen += 1
    assert seen > 95, (seen, same)


def member(name: str, data: bytes, **fields: object) -> bytes:
    """A member as tarfile writes it."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def rebuilt(packed: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """The archive with some members written anew."""
    result = b""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for info in archive:
            data = archive.extractfile(info).read()  # type: ignore[union-attr]
            changed = change(info.name, data)
            result += member(info.name, data) if changed is None else changed
    return result + bytes(1024)


TRICKS: dict[str, Callable[[str, bytes], bytes | None]] = {
    "a path out": lambda name, data: member("../" + name, data) if name.startswith("weights") else None,
    "an absolute path": lambda name, data: member("/x", data) if name.startswith("weights") else None,
    "a link": lambda name, data: (
        member(name, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") if name.startswith("programs") else None
    ),
    "a sparse file": lambda name, data: (
        member(name, data, type=tarfile.GNUTYPE_SPARSE) if name.startswith("programs") else None
    ),
    "a pax header first": lambda name, data: member("x", b"9 path=x\n", type=tarfile.XHDTYPE) + member(name, data),
    "another mode": lambda name, data: member(name, data, mode=0o4755),
    "twice": lambda name, data: member(name, data) * 2 if name.startswith("programs") else None,
    "left out": lambda name, data: b"" if name.startswith("tokenizer") else None,
    "more than its own": lambda name, data: member("more", b"x") + member(name, data),
    "something behind a frame": lambda name, data: member(name, data + b"x") if name.endswith(SUFFIX) else None,
    "another signature's name": lambda name, data: member("signatures/../x", data) if name == SIGNATURE else None,
    "a long signature": lambda name, data: member(name, data + b"s") if name == SIGNATURE else None,
    "many signatures": lambda name, data: (
        b"".join(member(f"signatures/{i:064x}", data) for i in range(65)) if name == SIGNATURE else None
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_not_written_by_pack_is_refused(trick: str, packed: bytes, tmp_path: Path) -> None:
    assert rebuilt(packed, lambda name, data: None) == packed
    refused(rebuilt(packed, TRICKS[trick]), tmp_path)


def test_a_bomb_takes_no_memory_and_no_disk(packed: bytes, tmp_path: Path) -> None:
    """400 MiB of zeros behind 40 kB, and a frame that asks for a window of 128 MiB."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(400)) + compressor.flush()
    assert len(bomb) < 60_000
    huge = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    wide = zstandard.ZstdCompressor(compression_params=huge).compressobj()
    asking = wide.compress(bytes(1 << 20)) + wide.flush()
    tracemalloc.start()
    for data in (bomb, asking):
        changed = rebuilt(packed, lambda name, old, data=data: member(name, data) if name.endswith(SUFFIX) else None)
        refused(changed, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20  # the archive itself is in memory here; the bomb would be 400 MiB


def test_the_commands(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    words = ["pack", str(bundle.path), "-o", str(tmp_path / "b.tar")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and f"bundle {bundle.id}, " in done.stdout, done.output
    assert CliRunner().invoke(main, words).exit_code == 4
    done = CliRunner().invoke(main, ["unpack", str(tmp_path / "b.tar"), "-o", str(tmp_path / "b")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'b'}: bundle {bundle.id}\n")
    done = CliRunner().invoke(main, ["unpack", str(tmp_path / "none"), "-o", str(tmp_path / "c")])
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        3,
        f"error: cannot read {tmp_path / 'none'}: No such file or directory",
    )
