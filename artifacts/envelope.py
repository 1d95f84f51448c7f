"""Dataclasses as msgpack bytes: an array of a magic word, the format version and the fields, and its own SHA-256.

The version is read before anything after it is decoded, so that a bundle of another version is named as such,
whatever the rest of it looks like. The hash comes next, so that no changed bit of a manifest passes for a meaning: a
program's bytes are also hashed in the manifest, the manifest's own nowhere else.
"""

import hashlib
from typing import Any

import msgpack

from mochi_aot.artifacts.codec import from_plain, to_plain
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import FORMAT_VERSION, MAX_METADATA_BYTES
from mochi_aot.artifacts.limits import MAX_ELEMENTS, MAX_STRING_BYTES, ElementCounter

HASH_BYTES = 32  # of SHA-256

_REMEDY = "copy or compile the bundle again"


def pack(magic: str, value: Any, where: str) -> bytes:
    """Return the bytes of a dataclass instance.

    Raise BundleError if a field has the wrong type or the bytes would pass the limit.
    """
    plain = to_plain(type(value), value, where)
    try:
        body: bytes = msgpack.packb([magic, FORMAT_VERSION, plain])
    except ValueError as error:  # a str that is not valid Unicode
        raise BundleError(f"{where}: cannot be written ({_reason(error)})") from None
    data = body + hashlib.sha256(body).digest()
    if len(data) > MAX_METADATA_BYTES:
        raise BundleError(f"{where}: {len(data)} bytes, at most {MAX_METADATA_BYTES} can be read back")
    return data


def unpack[T](magic: str, kind: type[T], data: bytes, where: str) -> T:
    """Return the instance of `kind` in `data`.

    Raise BundleError if it is of another kind or version, cut short, or malformed.
    """
    if len(data) > MAX_METADATA_BYTES:
        raise BundleError(f"{where}: {len(data)} bytes, expected at most {MAX_METADATA_BYTES}")
    body = data[:-HASH_BYTES]
    unpacker = _unpacker(len(data))
    unpacker.feed(data)
    try:
        _check_head(unpacker, magic, where)
        if hashlib.sha256(body).digest() != data[-HASH_BYTES:]:
            raise BundleError(f"{where}: {len(data)} bytes that do not match the SHA-256 at their end; {_REMEDY}")
        plain = unpacker.unpack()
    except msgpack.OutOfData:
        raise BundleError(f"{where}: cut short after {len(data)} bytes; {_REMEDY}") from None
    except (ValueError, msgpack.UnpackException, MemoryError) as error:
        raise BundleError(f"{where}: not valid msgpack within the limits ({_reason(error)})") from None
    if unpacker.tell() != len(body):
        raise BundleError(f"{where}: expected {unpacker.tell()} bytes and a hash, seen {len(data)}")
    return from_plain(kind, plain, where)


def has_magic(magic: str, head: bytes) -> bool:
    """Return whether a file that begins with `head` is one of ours, of any version."""
    return head.startswith(b"\x93" + msgpack.packb(magic))


def _unpacker(size: int) -> Any:
    """Return an unpacker with limits.

    Every element takes a byte or more: no honest array or map has more elements than the file has bytes, and only files
    that are larger than the limit of elements have to be counted.
    """
    counter, most = ElementCounter(), min(size, MAX_ELEMENTS)
    return msgpack.Unpacker(
        object_pairs_hook=counter.count_map,
        list_hook=counter.count_list if size > MAX_ELEMENTS else None,
        max_buffer_size=MAX_METADATA_BYTES,
        max_str_len=min(size, MAX_STRING_BYTES),
        max_bin_len=0,
        max_ext_len=0,
        max_array_len=most,
        max_map_len=most,
    )


def _check_head(unpacker: Any, magic: str, where: str) -> None:
    if not _begins_with(unpacker, magic):
        raise BundleError(f"{where}: expected to begin with {magic!r}; this is not a mochi-aot bundle")
    version = unpacker.unpack()
    if type(version) is not int:
        raise ValueError("the format version is not a number")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: format version {version}, this mochi-aot reads version {FORMAT_VERSION};"
            " compile the checkpoint again, or install the mochi-aot that made the bundle"
        )


def _begins_with(unpacker: Any, magic: str) -> bool:
    try:
        return bool(unpacker.read_array_header() == 3 and unpacker.unpack() == magic)
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
