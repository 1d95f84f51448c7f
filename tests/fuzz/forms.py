"""Files as trees and back, with their hashes and checksums put right, so that what is changed is what is read."""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from mochi_aot.artifacts.layout import DELTA_MAGIC, FORMAT_VERSION, MANIFEST_MAGIC, PROGRAM_MAGIC
from tests.fuzz.trees import Tree

_BLOCK = 512


@dataclass(frozen=True)
class Form:
    """How a kind of file is taken apart and put together. `parse` raises for what is none; `build` for no file."""

    parse: Callable[[bytes], Tree]
    build: Callable[[Tree], bytes]


def sealed(magic: str) -> Form:
    """Return the form of a manifest or program."""

    def parse(data: bytes) -> Tree:
        unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass")
        unpacker.feed(data)
        return unpacker.unpack()[2]

    def build(tree: Tree) -> bytes:
        packer = msgpack.Packer(unicode_errors="surrogatepass")
        body: bytes = packer.pack([magic, FORMAT_VERSION, tree])
        return body + hashlib.sha256(body).digest()

    return Form(parse, build)


def _parse_tar(data: bytes) -> Tree:
    members, at = [], 0
    while len(header := data[at : at + _BLOCK]) == _BLOCK and any(header):
        size = int(header[124:135] or b"0", 8)
        start = at + _BLOCK
        text = {name: header[a:b].rstrip(b"\0").decode("latin-1") for name, (a, b) in _FIELDS.items()}
        members.append({**text, "data": data[start : start + size].decode("latin-1")})
        at = start + -(-size // _BLOCK) * _BLOCK
    return members


def _build_tar(tree: Tree) -> bytes:
    return b"".join(map(_build_member, tree)) + bytes(2 * _BLOCK)


def _build_member(member: dict[str, Any]) -> bytes:
    header, data = bytearray(_BLOCK), member["data"].encode("latin-1")
    for name, (start, stop) in _FIELDS.items():
        value = member[name].encode("latin-1")[: stop - start]
        header[start : start + len(value)] = value
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    return bytes(header) + data + bytes(-len(data) % _BLOCK)


_FIELDS = {"name": (0, 100), "mode": (100, 108), "size": (124, 136), "kind": (156, 157), "link": (157, 257)}
_FIELDS |= {"magic": (257, 265), "prefix": (345, 500)}


def _parse_tensors(data: bytes) -> Tree:
    length = int.from_bytes(data[:8], "little")
    return {"length": length, "header": json.loads(data[8 : 8 + length]), "data": data[8 + length :].decode("latin-1")}


def _build_tensors(tree: Tree) -> bytes:
    """Say the header's true length, unless `length` is past what a header may have."""
    header = json.dumps(tree["header"]).encode()
    length = len(header) if 0 <= tree["length"] < 1 << 20 else tree["length"] % (1 << 64)
    return length.to_bytes(8, "little") + header + tree["data"].encode("latin-1")


def _parse_journal(data: bytes) -> Tree:
    return [json.loads(line.partition(b" ")[2]) for line in data.splitlines()]


def _build_journal(tree: Tree) -> bytes:
    lines = [json.dumps(line).encode() for line in tree]
    return b"".join(hashlib.sha256(line).hexdigest()[:16].encode() + b" " + line + b"\n" for line in lines)


def _parse_words(data: bytes) -> Tree:
    """As whole numbers of four bytes, among which are counts, lengths and types."""
    end = len(data) // 4 * 4
    return {"words": list(struct.unpack(f"<{end // 4}I", data[:end])), "rest": data[end:].decode("latin-1")}


def _build_words(tree: Tree) -> bytes:
    words = [number & 0xFFFFFFFF for number in tree["words"]]
    return struct.pack(f"<{len(words)}I", *words) + tree["rest"].encode("latin-1")


MANIFEST, PROGRAM, DELTA = sealed(MANIFEST_MAGIC), sealed(PROGRAM_MAGIC), sealed(DELTA_MAGIC)
GGUF = Form(_parse_words, _build_words)
TAR = Form(_parse_tar, _build_tar)
TENSORS = Form(_parse_tensors, _build_tensors)
JOURNAL = Form(_parse_journal, _build_journal)
JSON = Form(json.loads, lambda tree: json.dumps(tree).encode())
LINES = Form(
    lambda data: [json.loads(line) for line in data.splitlines()],
    lambda tree: b"\n".join(json.dumps(line).encode() for line in tree),
)
