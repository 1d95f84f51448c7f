"""Ctrl-C: the first one asks to stop at the next safe moment, the second one stops at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from mochi_aot.runtime.errors import Interrupted


class InterruptFlag:
    """Context manager that takes over SIGINT. `check` raises Interrupted once it has been seen."""

    def __init__(self, on_request: Callable[[], None]) -> None:
        """`on_request` is called from the signal handler at the first Ctrl-C."""
        self._on_request = on_request
        self._requested = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Raises Interrupted if Ctrl-C was pressed."""
        if self._requested:
            raise Interrupted

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        self._on_request()
