"""The server's side of a connection: a few requests are begun in each turn of the event loop, and probes at once.

asyncio handles all that is ready before it looks again. After a burst of a thousand requests that would be a second
of reading them, in which nothing else is answered. Here what connections send waits in a line instead, and a part of
it is handed on in each turn. A connection that has something in the line is not read from, so that it holds one read.
"""

from asyncio import AbstractEventLoop
from collections import deque
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from mochi_aot.tools.serve.guard import PROBES

BACKLOG = 2048  # connections that the kernel keeps until they are accepted
ACCEPTED = 64  # connections that are accepted in one turn
_BEGUN = 4  # requests, or parts of their bodies, that are handed on in one turn
_PROBES = tuple(f"GET {path} ".encode() for path in PROBES)


class PacedProtocol(H11Protocol):
    """uvicorn's protocol, behind the line."""

    _line: ClassVar[deque["PacedProtocol"]] = deque()
    _waiting: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Hand a probe on, and let everything else wait for its turn."""
        if self._waiting is None and data.startswith(_PROBES):
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        self.flow.pause_reading()
        if self._waiting is not None:  # uvicorn has read on, for a body
            self._waiting += data
            return
        self._waiting = data
        self._line.append(self)
        if len(self._line) == 1:
            self.loop.call_soon(_turn, self._line, self.loop)

    def hand_on(self) -> None:
        """Let uvicorn have what came, unless the connection has gone meanwhile."""
        data, self._waiting = self._waiting, None
        if data is not None and not self.transport.is_closing():
            self.flow.resume_reading()
            super().data_received(data)


def _turn(line: "deque[PacedProtocol]", loop: AbstractEventLoop) -> None:
    for _ in range(min(_BEGUN, len(line))):
        line.popleft().hand_on()
    if line:
        loop.call_soon(_turn, line, loop)
