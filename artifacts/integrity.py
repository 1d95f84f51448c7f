"""BLAKE3 hashes of what a bundle holds: a tree hash, several times as fast as SHA-256, and on many threads if told.

The library lets other Python threads run meanwhile. The bundle's id is a SHA-256, see reader.py: of a small file, and a
number that people compare with tools of their own.
"""

import hashlib
from collections.abc import Buffer, Iterable
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from mochi_aot.artifacts.regular_file import open_regular, read_blocks
from mochi_aot.artifacts.schema import Shard


def new_hash(all_processors: bool = False) -> blake3:
    """Return a hash of nothing yet; with `all_processors` large buffers are hashed on several threads."""
    return blake3(max_threads=blake3.AUTO if all_processors else 1)


def hash_bytes(data: Buffer, all_processors: bool = False) -> str:
    """Return the BLAKE3 in hex of any C-contiguous buffer."""
    hashed = new_hash(all_processors)
    view = memoryview(data)
    if view.nbytes:  # an empty array has no bytes to be cast
        hashed.update(view.cast("B"))
    return hashed.hexdigest()


def hash_file(path: Path) -> str:
    """Return the BLAKE3 in hex of a file, read in pieces. Raise OSError if it cannot be read or is no file."""
    with open_regular(path, buffering=0) as file:
        return hash_range(file)


def hash_range(file: BinaryIO, start: int = 0, nbytes: int | None = None) -> str:
    """Return the BLAKE3 in hex of bytes of an open file. Raise OSError as `read_blocks`."""
    hashed = new_hash(all_processors=True)
    for block in read_blocks(file, start, nbytes):
        hashed.update(block)
    return hashed.hexdigest()


def hash_shards(shards: Iterable[Shard]) -> str:
    """Return the BLAKE3 in hex of a weight file, by what it consists of: each byte is hashed once, as its shard's."""
    lines = [f"{shard.offset} {shard.nbytes} {shard.blake3}\n" for shard in shards]
    return hash_bytes("".join(lines).encode())


def bundle_id(manifest: bytes) -> str:
    """Return the id of the bundle with this manifest: SHA-256 in hex, as `sha256sum manifest.msgpack` prints it."""
    return hashlib.sha256(manifest).hexdigest()
