"""SIGINT, SIGTERM and SIGHUP: stop at the next safe moment.

An exception that a signal's handler raises comes up wherever Python is at that moment. In an import it would go
through the start of a C++ extension, which ends the process (`std::terminate`) or makes another error of it; in a
destructor or a callback it is swallowed. So nothing is raised during an import, and what was swallowed is raised again:
a timer looks, from the first signal on, whether the exception is still on its way.
"""

import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from mochi_aot.runtime.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.05  # between two looks
_ONE_STOP_SECONDS = 1.0  # signals so soon after the first are the same wish: timeout(1) and terminals send two
_LONGEST_IMPORT = 60.0  # seconds; after that it is no import, but a program that one has started
_IMPORTS = "<frozen importlib._bootstrap>"


class Stopped(KeyboardInterrupt):
    """A signal came: all that Ctrl-C would clean up is cleaned up. `number` is the first signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stop:
    """Raises Stopped in the main thread, once it has been asked to, for as long as nothing else has come of it."""

    def __init__(self) -> None:
        self.number = 0  # of the first signal; 0 until there was one
        self._asked = 0.0
        self._raised: weakref.ref[Stopped] | None = None
        self._before: Any = None
        self._settled = False

    def settle(self) -> None:
        """Raise nothing from now on: an error is on its way already, and its cleanup is not to be stopped."""
        self._settled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.number:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Stop here, or as soon as that is safe. To be called by a signal's handler."""
        if not self.number:
            self.number, self._asked = number, time.monotonic()
            self._before = signal.signal(signal.SIGALRM, lambda _, where: self._look(where))
            signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
            self._look(frame)
        elif time.monotonic() - self._asked > _ONE_STOP_SECONDS:
            self._raised = None  # the cleanup takes too long for somebody
            self._look(frame)

    def _look(self, frame: FrameType | None) -> None:
        if self._settled or (self._raised is not None and self._raised() is not None):
            return
        if _importing(frame) and time.monotonic() - self._asked < _LONGEST_IMPORT:
            return
        raise self._next()

    def _next(self) -> Stopped:
        # No frame of the exception's traceback may hold it: swallowed, it is to vanish at once.
        error = Stopped(self.number)
        self._raised = weakref.ref(error)
        return error


@contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Let the signals raise Stopped meanwhile, except those that are ignored, as SIGHUP is under nohup."""
    with stop, handling(stop.ask), _quiet_destructors():
        yield


class InterruptFlag:
    """Context manager that takes over the signals. `check` raises Interrupted once one of them has been seen; a second
    one, unless it comes so soon that it is the same wish, stops at once.

    `number` is the signal's, SIGINT's until there was one.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        """`on_request` is called from the signal handler at the first signal."""
        self._on_request = on_request
        self._requested, self._asked = False, 0.0
        self._stop = Stop()
        self._handling = handling(self._handle)
        self.number = int(signal.SIGINT)

    def __enter__(self) -> Self:
        self._handling.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.__exit__(kind, error, trace)
        self._handling.__exit__(kind, error, trace)

    def check(self) -> None:
        """Raise Interrupted if the process was asked to stop."""
        if self._requested:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            if time.monotonic() - self._asked > _ONE_STOP_SECONDS:
                self._stop.ask(self.number, frame)
            return
        self._requested, self._asked, self.number = True, time.monotonic(), number
        self._on_request()


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a function called for each of the signals meanwhile, unless it is ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def _quiet_destructors() -> Iterator[None]:
    """Say nothing of a Stopped that a destructor or a callback has swallowed meanwhile: it is raised again."""
    before = sys.unraisablehook

    def hook(seen: "sys.UnraisableHookArgs") -> None:
        if not isinstance(seen.exc_value, Stopped):
            before(seen)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            return True
        frame = frame.f_back
    return False
