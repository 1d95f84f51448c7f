"""How a registry lets one in: the token of its token server, or a name and a password, as docker login keeps them."""

import base64
import json
import os
import re
from collections.abc import Generator
from pathlib import Path

import httpx2

MAX_TOKEN_BYTES = 1 << 20
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryAuth(httpx2.Auth):
    """Answers a registry's challenge, and keeps the answer for the requests that follow.

    Name and password are those of `auths` in docker's config.json; they go to the registry, or by https to the token
    server that it names.
    """

    requires_response_body = False

    def __init__(self, host: str, name: str, push: bool) -> None:
        self._host = host
        self._scope = f"repository:{name}:{'pull,push' if push else 'pull'}"
        self._answer: str | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the answer; ask for a new one where it is not taken."""
        if self._answer is not None and self._is_ours(request):
            request.headers["Authorization"] = self._answer
        response = yield request
        if response.status_code != 401 or not self._is_ours(request):
            return
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        basic = _basic(self._host)
        if kind.lower() == "bearer" and "realm" in parameters:
            token = yield self._token_request(parameters, basic)
            self._answer = _token_answer(token)
        elif kind.lower() == "basic" and basic is not None:
            self._answer = basic
        if self._answer is not None:
            request.headers["Authorization"] = self._answer
            yield request

    def _is_ours(self, request: httpx2.Request) -> bool:
        return request.url.netloc.decode() == self._host  # a redirect to a store gets no token

    def _token_request(self, parameters: dict[str, str], basic: str | None) -> httpx2.Request:
        query = {"scope": self._scope}
        if "service" in parameters:
            query["service"] = parameters["service"]
        url = httpx2.URL(parameters["realm"]).copy_merge_params(query)
        safe = url.scheme == "https" or url.host in ("localhost", "127.0.0.1", "::1")
        headers = {"Authorization": basic} if basic is not None and safe else {}
        return httpx2.Request("GET", url, headers=headers)


def _token_answer(response: httpx2.Response) -> str | None:
    if response.status_code != 200:
        return None
    try:
        data = response.read()[:MAX_TOKEN_BYTES]
        found = json.loads(data)
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError, httpx2.HTTPError):
        return None
    return f"Bearer {token}" if isinstance(token, str) and token.isprintable() and token.isascii() else None


def _basic(host: str) -> str | None:
    """Return what docker's configuration has for a registry; None without."""
    place = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        entry = json.loads(place.read_bytes())["auths"][host]["auth"]
        base64.b64decode(entry, validate=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"Basic {entry}"
