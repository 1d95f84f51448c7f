"""Makes things in several threads and takes them, in the order in which they were asked for, in one more."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class _Item:
    made: Future[Any]
    take: Callable[[Any], None]
    nbytes: int


class Conveyor:
    """Context manager. What is being made and was not yet taken has `window` bytes at most, or is a single thing.

    The first error of any thread stops all of them; `put` raises it, or leaving the context does.
    """

    def __init__(self, window: int, start: Callable[[], None] = lambda: None) -> None:
        """Each thread that makes things calls `start` first."""
        workers = max(2, len(os.sched_getaffinity(0)))
        self._makers = ThreadPoolExecutor(workers, thread_name_prefix="make", initializer=start)
        # A daemon: an interruption between its start and the body of `with` leaves nobody to close the conveyor, and
        # the interpreter would wait for the thread for ever.
        self._taker = threading.Thread(target=self._take_all, name="take", daemon=True)
        self._window, self._on_belt = window, 0
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        try:
            self._taker.start()
        except BaseException as error:
            self._close(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(error)
            self._taker.join()
        except BaseException as interruption:  # noqa: BLE001  # raised below
            self._close(interruption)
            self._taker.join()
        self._makers.shutdown(cancel_futures=True)
        if error is None and self._error is not None:
            raise self._error

    def _close(self, error: BaseException | None) -> None:
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._changed.notify_all()

    def put[T](self, nbytes: int, make: Callable[[], T], take: Callable[[T], None]) -> None:
        """Have `make` called in some thread and `take` called with what it gives, once all before it were taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._on_belt or self._on_belt + nbytes <= self._window)
            if self._error is not None:
                raise self._error
            self._on_belt += nbytes
            self._items.append(_Item(self._makers.submit(make), take, nbytes))
            self._changed.notify_all()

    def _take_all(self) -> None:
        try:
            while (item := self._next()) is not None:
                made = item.made.result()
                if self._error is not None:
                    return
                item.take(made)
                with self._changed:
                    self._on_belt -= item.nbytes
                    self._changed.notify_all()
                del item, made
        except BaseException as error:  # noqa: BLE001  # raised in the other thread
            self._close(error)

    def _next(self) -> _Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._items or self._closed)
            return self._items.popleft() if self._items and self._error is None else None
