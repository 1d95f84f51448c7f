"""Says which file is being loaded when a load gets no further: ttnn's pinned mappings can hang, docs/first-machine.md.

A thread says so, and can only where ttnn lets other threads run; `mochi-bringup` looks from another process.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOGGER = logging.getLogger("mochi_aot")
STALLED = 60.0  # seconds


class LoadWatch:
    """Knows the file that is being loaded. It is told as a warning, once, after `seconds` in which no other began."""

    def __init__(self, seconds: float = STALLED) -> None:
        self._seconds = seconds
        self._next = threading.Condition()
        self._path: Path | None = None
        self._begun, self._done = 0, False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch meanwhile."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._next:
                self._done = True
                self._next.notify()
            thread.join()

    def begin(self, path: Path | None) -> None:
        """Say which file is loaded from now on; None for none."""
        with self._next:
            self._path, self._begun = path, self._begun + 1

    def _watch(self) -> None:
        told = 0
        with self._next:
            while not self._done:
                seen = self._begun
                self._next.wait(self._seconds)
                if not self._done and self._path is not None and seen == self._begun and seen != told:
                    told = seen
                    _LOGGER.warning("no progress for %g s while %s is loaded", self._seconds, self._path)
