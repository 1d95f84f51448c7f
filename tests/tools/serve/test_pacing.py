"""Requests wait in a line, probes do not: on an event loop, with connections that note what they are given."""

import asyncio
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mochi_aot.tools.serve.pacing import PacedProtocol


class Wire(asyncio.Transport):
    """A connection that notes whether it is read from."""

    reading, closing = True, False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing


async def app(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What uvicorn's protocol was given, in this order."""
    seen: list[bytes] = []
    monkeypatch.setattr(H11Protocol, "data_received", lambda self, data: seen.append(data))
    return seen


def connected(config: Config) -> tuple[PacedProtocol, Wire]:
    protocol, wire = PacedProtocol(config, ServerState(), {}, asyncio.get_running_loop()), Wire()
    protocol.connection_made(wire)
    return protocol, wire


def test_a_probe_overtakes_what_waits(given: list[bytes]) -> None:
    async def scenario() -> None:
        config = Config(app, log_config=None)
        crowd = [connected(config) for _ in range(100)]
        for number, (protocol, _) in enumerate(crowd):
            protocol.data_received(b"POST /%d " % number)
        assert given == [] and not any(wire.reading for _, wire in crowd)
        connected(config)[0].data_received(b"GET /health HTTP/1.1\r\n")
        assert given == [b"GET /health HTTP/1.1\r\n"]
        await asyncio.sleep(0)
        assert 0 < len(given) - 1 < 10  # a few in each turn
        while len(given) < 101:
            await asyncio.sleep(0)
        assert given[1:] == [b"POST /%d " % number for number in range(100)]
        assert all(wire.reading for _, wire in crowd)

    asyncio.run(scenario())


def test_more_of_a_request_stays_behind_its_beginning(given: list[bytes]) -> None:
    async def scenario() -> None:
        config = Config(app, log_config=None)
        (protocol, wire), (gone, closed) = connected(config), connected(config)
        protocol.data_received(b"POST / ")
        gone.data_received(b"POST /gone ")
        closed.closing = True
        protocol.flow.resume_reading()  # as uvicorn does for a body
        protocol.data_received(b"GET /health ")  # not a probe: it is inside of a body
        assert not wire.reading
        while not wire.reading:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert given == [b"POST / GET /health "]

    asyncio.run(scenario())
