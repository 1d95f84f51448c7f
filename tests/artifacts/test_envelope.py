import hashlib
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.envelope import has_magic, pack, unpack
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import FORMAT_VERSION, MAX_METADATA_BYTES
from mochi_aot.artifacts.schema import Placement, Program
from tests.artifacts.samples import PROGRAM

MAGIC = "mochi-aot program"
DATA = pack(MAGIC, PROGRAM, "p")


def sealed(array: bytes) -> bytes:
    """With the SHA-256 of itself behind it."""
    return array + hashlib.sha256(array).digest()


def test_round_trip_and_head() -> None:
    assert unpack(MAGIC, Program, DATA, "p") == PROGRAM
    assert pack(MAGIC, unpack(MAGIC, Program, DATA, "p"), "p") == DATA
    assert has_magic(MAGIC, DATA[:64])
    assert not has_magic("mochi-aot bundle", DATA[:64])


def test_every_truncation_is_an_error() -> None:
    for size in range(len(DATA)):
        with pytest.raises(
            BundleError, match=r"^p: (cut short after \d+ bytes|\d+ bytes that do not match the SHA-256 at their end); "
        ):
            unpack(MAGIC, Program, DATA[:size], "p")


@given(st.integers(0, len(DATA) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_a_program_or_a_bundle_error(position: int, byte: int) -> None:
    """Where the hash is made to fit; see below where it is not."""
    changed = sealed((DATA[:position] + bytes([byte]) + DATA[position + 1 :])[:-32])
    try:
        assert isinstance(unpack(MAGIC, Program, changed, "p"), Program)
    except BundleError as error:
        assert str(error).startswith("p: ") and "\n" not in str(error)


def test_every_changed_bit_is_an_error() -> None:
    for position in range(8 * len(DATA)):
        byte = DATA[position // 8] ^ 1 << position % 8
        with pytest.raises(BundleError, match=r"^p: "):
            unpack(MAGIC, Program, DATA[: position // 8] + bytes([byte]) + DATA[position // 8 + 1 :], "p")


@given(st.binary(max_size=100))
def test_any_bytes_give_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"^p: "):
        unpack(MAGIC, Program, data, "p")


def head(version: object = FORMAT_VERSION, magic: object = MAGIC, *rest: object) -> bytes:
    data: bytes = msgpack.packb([magic, version, *rest])
    return data


def test_another_version_is_named_whatever_follows() -> None:
    for rest in (b"", b"\xc1\xff", msgpack.packb({"anything": [1]})):
        with pytest.raises(BundleError, match="format version 3, this mochi-aot reads version 4; compile"):
            unpack(MAGIC, Program, b"\x93" + head()[1:-1] + b"\x03" + rest, "p")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"json": 1}', "expected to begin with 'mochi-aot program'"),
        (head(magic="mochi-aot bundle"), "expected to begin with 'mochi-aot program'"),
        (head(FORMAT_VERSION, MAGIC), "expected to begin with"),
        (head("1", MAGIC, {}), "the format version is not a number"),
        (head(True, MAGIC, {}), "the format version is not a number"),
        (DATA + b"\x00", "do not match the SHA-256 at their end"),
        (sealed(DATA[:-32] + b"\x00"), f"expected {len(DATA) - 32} bytes and a hash, seen {len(DATA) + 1}"),
        (sealed(head(FORMAT_VERSION, MAGIC, b"binary")), "bin"),
        (sealed(head(FORMAT_VERSION, MAGIC, msgpack.ExtType(1, b"x"))), "ext"),
        (sealed(head(FORMAT_VERSION, MAGIC, {1: 2})), "int is not allowed for map key"),
        (sealed(b"\x93" + head()[1:] + b"\x82\xa1a\x01\xa1a\x02"), "a map names a key twice"),
        (sealed(b"\x93" + head()[1:] + b"\xa1\xff"), "utf-8"),
        (sealed(b"\x93" + head()[1:] + b"\xdd\xff\xff\xff\xff"), "max_array_len"),
        (sealed(b"\x93" + head()[1:] + b"\xdf\xff\xff\xff\xff"), "max_map_len"),
        (sealed(b"\x93" + head()[1:] + b"\xdb\x7f\xff\xff\xff"), "cut short after 57 bytes"),
        (sealed(b"\x93" + head()[1:] + b"\x91" * 5000 + b"\x00"), "not valid msgpack within the limits"),
    ],
)
def test_malformed_bytes_say_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(BundleError) as error:
        unpack(MAGIC, Program, data, "p")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_too_large_is_refused_before_parsing() -> None:
    with pytest.raises(BundleError, match=f"expected at most {MAX_METADATA_BYTES}"):
        unpack(MAGIC, Program, bytes(MAX_METADATA_BYTES + 1), "p")


def test_writing_refuses_what_could_not_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mochi_aot.artifacts.envelope.MAX_METADATA_BYTES", len(DATA) - 1)
    with pytest.raises(BundleError, match=f"p: {len(DATA)} bytes, at most {len(DATA) - 1}"):
        pack(MAGIC, PROGRAM, "p")


def test_writing_refuses_a_str_that_is_not_unicode() -> None:
    with pytest.raises(BundleError, match="name: expected a line of text"):
        pack(MAGIC, replace(PROGRAM, name="\ud800"), "p")


def test_writing_checks_types() -> None:
    with pytest.raises(BundleError, match="p: chunk: expected int, seen str 'x'"):
        pack(MAGIC, Placement(0, "x"), "p")  # type: ignore[arg-type]
