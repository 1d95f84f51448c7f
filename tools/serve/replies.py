"""Answers as JSON, and errors in the form of the dialect that a path belongs to."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mochi_aot.tools.serve.errors import RequestError

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_MEDIA_SERVER = ("/v1/videos/generations", "/v1/videos/jobs", "/health", "/tt-liveness", "/metrics")


class JsonReply(Response):
    """JSON in ASCII: what a request had in it, lone surrogates too, cannot break it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def error_reply(path: str, error: RequestError) -> JsonReply:
    """Return the answer to a request that is refused, in the form of Tenstorrent's media server or of OpenAI."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path.startswith(_MEDIA_SERVER):
        return JsonReply(_detail(error), 422 if error.status == 400 else error.status, headers)
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    told = {"message": str(error), "type": kind, "param": error.field, "code": kind.removesuffix("_error")}
    return JsonReply({"error": told}, error.status, headers)


def _detail(error: RequestError) -> dict[str, Any]:
    """Return the error as FastAPI has it: a text, or for what is wrong with a body a list."""
    if error.status != 400:
        return {"detail": str(error)}
    place = ["body"] if error.field is None else ["body", error.field]
    return {"detail": [{"type": "value_error", "loc": place, "msg": str(error)}]}


async def json_body(request: Request) -> dict[str, Any]:
    """Return the object that a request's body is. Raise RequestError for any other body."""
    try:
        value = json.loads(await request.body(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, f"the body is no JSON: {reason}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "the body is no JSON object")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")
