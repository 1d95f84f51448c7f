"""Ctrl-C and SIGTERM: the first asks to stop at the next safe moment, the second stops at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from mochi_aot.runtime.errors import Interrupted


class InterruptFlag:
    """Context manager that takes over SIGINT and SIGTERM. `check` raises Interrupted once one of them has been seen.

    `number` is the signal's, SIGINT's until there was one.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        """`on_request` is called from the signal handler at the first signal."""
        self._on_request = on_request
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}
        self.number = int(signal.SIGINT)

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if the process was asked to stop."""
        if self._requested:
            raise Interrupted

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested, self.number = True, signum
        self._on_request()
