"""The hash of a parameter's contents, made of what is read anyway."""

import threading
from collections.abc import Callable

import torch

from mochi_aot.artifacts.integrity import new_hash

BLOCK_BYTES = 4 << 20  # that are read at a time where nobody else has read them

ReadRows = Callable[[int, int], torch.Tensor]  # rows [start, stop) as the file has them


class Contents:
    """BLAKE3 of all rows of one parameter, as its file has them, first to last; any thread may call it at any time.

    Readers offer the rows that they have read. Those that go on where the hash has come to are hashed, by the reader's
    thread; others are passed over, and read again by `digest` if nobody offers them in their turn.
    """

    def __init__(self, rows: int, row_bytes: int, trusted: str | None = None) -> None:
        """`trusted` is what the hash is known to be, as far as the file's times tell."""
        self._rows, self._row_bytes, self.trusted = rows, row_bytes, trusted
        self._lock = threading.Lock()
        self._hash = new_hash()
        self._done = 0

    def offer(self, start: int, rows: torch.Tensor) -> None:
        """Hash rows from `start` on, contiguous, if it is their turn."""
        if self._done == start and self._lock.acquire(blocking=False):
            try:
                if self._done == start:
                    self._add(rows)
            finally:
                self._lock.release()

    def digest(self, read: ReadRows) -> str:
        """Return the hash in hex; the rows that were not hashed yet are read now."""
        if self.trusted is not None:
            return self.trusted
        with self._lock:
            count = max(BLOCK_BYTES // self._row_bytes, 1)
            while self._done < self._rows:
                self._add(read(self._done, min(self._done + count, self._rows)))
            return self._hash.hexdigest()

    def contradicts(self) -> bool:
        """Return whether all rows were read, and have another hash than the one that was trusted."""
        if self.trusted is None or self._done < self._rows:
            return False
        with self._lock:
            return self._hash.hexdigest() != self.trusted

    def _add(self, rows: torch.Tensor) -> None:
        self._hash.update(rows.reshape(-1).view(torch.uint8).numpy())
        self._done += len(rows)
