"""SHA-256 of bytes and files."""

import hashlib
from collections.abc import Buffer
from pathlib import Path


def hash_bytes(data: Buffer) -> str:
    """SHA-256 in hex of any contiguous buffer."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 in hex of a file, read in pieces. OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
