"""In front of the page: who may come in, which of Gradio's paths there are, and what a browser may load with it."""

import asyncio
import base64
import binascii
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.replies import error_reply
from mochi_aot.tools.serve.service import Service

PLACE = "/ui"
# Gradio has paths for uploads, files, proxies, and for changing its source. The page needs these alone.
_READ = re.compile(
    r"/ui(/(config|theme\.css|(assets|static|svelte)/.*|videos/[^/]+/(content|record)"
    r"|gradio_api/(app_id|startup-events|theme\.css|heartbeat/[a-z0-9]{1,40}|queue/data))?)?"
)
_CHANGE = re.compile(r"/ui/gradio_api/(queue/join|cancel|reset)")
# Gradio's page has scripts and styles in its text. Nothing comes from elsewhere, and nothing goes there.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_LOOK = 0.5  # seconds between two looks whether the server ends


class Door:
    """Lets browsers to the page: a key is asked for by HTTP's Basic scheme, as the password, the name being anything.

    Behind the door such a request has the key as clients of the API send it. A server that ends hangs up on pages,
    which would stay connected for ever.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PLACE or path.startswith(f"{PLACE}/")):
            await self._app(scope, receive, send)
            return
        try:
            _check(scope)
            self._let_in(scope)
        except RequestError as error:
            self._service.metrics.refused.labels(str(error.status)).inc()
            reply = error_reply(path, error)
            if error.status == 401:
                reply.headers["WWW-Authenticate"] = 'Basic realm="mochi-serve: any name, an API key as the password"'
            await reply(scope, receive, send)
            return
        await self._app(scope, self._until_the_end(receive), _with_policy(send))

    def _let_in(self, scope: Scope) -> None:
        """Make the scope's Authorization that of the API. Raise RequestError with status 401 for no key known here."""
        headers = MutableHeaders(scope=scope)
        key = _password(headers.get("authorization"))
        bearer = None if key is None else f"Bearer {key}"
        caller: Caller = self._service.keys.caller(bearer)
        del headers["authorization"]
        if bearer is not None:
            headers["authorization"] = bearer
        scope["mochi_caller"] = caller

    def _until_the_end(self, receive: Receive) -> Receive:
        """Return what says that the client has gone once the server ends."""

        async def received() -> Message:
            message = asyncio.ensure_future(receive())
            try:
                while not message.done() and not self._service.is_ending:
                    await asyncio.wait({message}, timeout=_LOOK)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()

        return received


def _check(scope: Scope) -> None:
    """Raise RequestError for a path that the page does not need, and for what another site's page asks for."""
    known = {"GET": _READ, "HEAD": _READ, "POST": _CHANGE}.get(scope["method"])
    if known is None or known.fullmatch(scope["path"]) is None:
        raise RequestError(404, "there is no such path here; the page is at /ui/")
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if known is _CHANGE and origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise RequestError(403, "the page is asked by another site, which it is not for")


def _password(authorization: str | None) -> str | None:
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, found, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if found and password.isprintable() and password.isascii() else None


def _with_policy(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = _POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
        await send(message)

    return sent
