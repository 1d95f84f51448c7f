"""SHA-256 of bytes and files."""

import hashlib
from collections.abc import Buffer, Iterable
from pathlib import Path

from mochi_aot.artifacts.schema import Shard


def hash_bytes(data: Buffer) -> str:
    """Return the SHA-256 in hex of any contiguous buffer."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 in hex of a file, read in pieces. Raise OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_shards(shards: Iterable[Shard]) -> str:
    """Return the SHA-256 in hex of a weight file, by what it consists of: each byte is hashed once, as its shard's."""
    lines = [f"{shard.offset} {shard.nbytes} {shard.sha256}\n" for shard in shards]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
