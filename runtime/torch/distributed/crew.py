"""The followers, as the leader sees them: what it tells them, and what it hears of those that fail."""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.torch.distributed.links import Link, Message

_SETTLE_SECONDS = 2.0  # for which a failure that may have another one as its cause waits for that
_GRACE_SECONDS = 15.0  # in which the leader ends by itself once a rank has failed; a GPU may wait for that rank forever


class RankError(BackendError):
    """Another process of a distributed run has failed. The exit code is that of its error."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]


@dataclass(frozen=True)
class _Failure:
    """`follows` says that the rank failed because it could not reach another one."""

    message: str
    code: ExitCode
    follows: bool


class Crew:
    """Links to all followers. Threads listen to each."""

    def __init__(self, links: Mapping[int, Link]) -> None:
        self._links = links
        self._changed = threading.Condition()
        self._failures: list[_Failure] = []
        self._ready: dict[int, Message] = {}
        self._closed = False
        self._last_resort: threading.Timer | None = None
        for rank, link in links.items():
            threading.Thread(target=self._listen, args=(rank, link), name=f"rank {rank}", daemon=True).start()

    def tell(self, message: Message) -> None:
        """Send a message to all. Raise RankError if one of them has failed."""
        with self._changed:
            failed = bool(self._failures)
        if failed:
            raise self.failure()
        for link in self._links.values():
            link.send(message)

    def wait_until_ready(self, seconds: float) -> dict[int, Message]:
        """Return what each rank says of itself once it is ready. Raise RankError, or BackendError after `seconds`."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failures or len(self._ready) == len(self._links), seconds)
        if self._failures:
            raise self.failure()
        if not done:
            missing = sorted(set(self._links) - set(self._ready))
            raise BackendError(f"ranks {missing} were not ready within {seconds:.0f} s")
        return self._ready

    def failure(self) -> RankError:
        """Return what the first rank that failed by itself says, waiting a moment for it to be known."""
        with self._changed:
            self._changed.wait_for(lambda: any(not failure.follows for failure in self._failures), _SETTLE_SECONDS)
            found = sorted(self._failures, key=lambda failure: failure.follows)
        if not found:
            return RankError("another process of the run cannot be reached, and has not said why", ExitCode.DEVICE)
        return RankError(found[0].message, found[0].code)

    def close(self) -> None:
        """Have all followers end."""
        with self._changed:
            self._closed = True
            if self._last_resort is not None:
                self._last_resort.cancel()
        for link in self._links.values():
            link.send({"do": "close"})

    def _listen(self, rank: int, link: Link) -> None:
        said = False
        while (message := link.receive()) is not None:
            if "ready" in message:
                with self._changed:
                    self._ready[rank] = message["ready"]
                    self._changed.notify_all()
            elif "signal" in message:
                os.kill(os.getpid(), signal.Signals(message["signal"]))
            elif "error" in message:
                said = True
                self._failed(
                    _Failure(f"rank {rank}: {message['error']}", ExitCode(message["code"]), message["follows"])
                )
        if not said:
            self._failed(_Failure(f"rank {rank} has ended, or was ended, without a word", ExitCode.SYSTEM, False))

    def _failed(self, failure: _Failure) -> None:
        with self._changed:
            if self._closed:
                return
            self._failures.append(failure)
            self._changed.notify_all()
            if self._last_resort is None:
                self._last_resort = threading.Timer(_GRACE_SECONDS, self._end)
                self._last_resort.daemon = True
                self._last_resort.start()

    def _end(self) -> None:
        """End this process, which waits for a rank that is no more, and cannot be woken."""
        error = self.failure()
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(int(error.exit_code))
