"""In front of the application: how many requests at a time, and how large and how slow their bodies may be."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.replies import error_reply
from mochi_aot.tools.serve.settings import BODY_SECONDS, MAX_BODY, MAX_REQUESTS

PROBES = ("/health", "/tt-liveness", "/metrics")


class _HungUpError(Exception):
    """The client hung up before its request was whole."""


class Guard:
    """Reads bodies before the application sees a request, so that nothing of it waits for a client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._open >= MAX_REQUESTS and scope["path"] not in PROBES:
            busy = RequestError(503, f"{MAX_REQUESTS} requests are open; come again", retry_after=1)
            await error_reply(scope["path"], busy)(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, _replay(await _body(scope, receive), receive), send)
        except _HungUpError:
            return
        except RequestError as error:
            await error_reply(scope["path"], error)(scope, receive, send)
        finally:
            self._open -= 1


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Return a request's body. Raise RequestError where it is too large or too slow."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and (len(declared) > 12 or int(declared) > MAX_BODY):
        raise RequestError(413, f"the body is larger than {MAX_BODY} bytes")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _HungUpError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY:
                    raise RequestError(413, f"the body is larger than {MAX_BODY} bytes")
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(408, f"the body did not come within {BODY_SECONDS:g} seconds") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and then what the server says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
