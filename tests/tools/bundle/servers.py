"""Servers that bundles are moved to and from: files with ranges, and a registry's protocol. Both can break off."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """What both servers share: bodies, and sending a part of a body. `server.state` is the server's own object."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    @property
    def state(self) -> Any:
        return self.server.state  # type: ignore[attr-defined]

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer_range(self, data: bytes) -> None:
        """The bytes that were asked for; of them only `state.cut` bytes if that is set, and then the line goes dead."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match and self.state.ranges:
            start, end = int(match[1]), min(int(match[2]) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            data = data[start:end]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.state.cut and len(data) > self.state.cut:
            self.wfile.write(data[: self.state.cut])
            self.state.sent += self.state.cut
            self.close_connection = True
            return
        self.wfile.write(data)
        self.state.sent += len(data)


class FileState:
    """A folder that is served. `sent` counts the bytes of bodies, `requests` the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.cut, self.sent = folder, True, 0, 0
        self.requests: list[str] = []
        self.failures = 0  # of the next requests


class FileHandler(Handler):
    """A web server."""

    def do_GET(self) -> None:
        self.state.requests.append(self.path)
        if self.state.failures:
            self.state.failures -= 1
            self.answer(503)
            return
        place = self.state.folder / self.path.lstrip("/")
        if place.is_file():
            self.answer_range(place.read_bytes())
        else:
            self.answer(404)


class RegistryState:
    """What a registry has. With `password`, the answer of its token server is asked for."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.ranges, self.cut, self.sent, self.received = True, 0, 0, 0
        self.password = ""
        self.port = 0


class RegistryHandler(Handler):
    """The part of the distribution specification 1.1 that clients of one repository need."""

    TOKEN: ClassVar[str] = "abc"

    def refused(self) -> bool:
        """Whether the request had no token, where one is needed; then it is told where there are tokens."""
        if not self.state.password or self.headers.get("Authorization") == f"Bearer {self.TOKEN}":
            return False
        self.body()
        realm = f'Bearer realm="http://127.0.0.1:{self.state.port}/token",service="here"'
        self.answer(401, WWW_Authenticate=realm)
        return True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/token":
            good = self.headers.get("Authorization") == f"Basic {self.state.password}"
            self.answer(200 if good else 401, json.dumps({"token": self.TOKEN}).encode())
            return
        if self.refused():
            return
        kind, _, name = url.path.removeprefix("/v2/me/videos/").partition("/")
        found = (self.state.manifests if kind == "manifests" else self.state.blobs).get(name)
        if found is None:
            self.answer(404)
        elif kind == "blobs" and self.command == "GET":
            self.answer_range(found)
        else:
            self.answer(200, found)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        if not self.refused():
            self.body()
            self.answer(202, Location="/v2/me/videos/blobs/uploads/1?state=x")

    def do_PUT(self) -> None:
        if self.refused():
            return
        data, url = self.body(), urlsplit(self.path)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if "/blobs/uploads/" in url.path:
            query = parse_qs(url.query)
            good = query["digest"] == [digest] and query["state"] == ["x"]
            self.state.received += len(data)
            self.state.blobs |= {digest: data} if good else {}
            self.answer(201 if good else 400)
            return
        # A registry must have every blob that a manifest names.
        manifest = json.loads(data)
        named = [manifest["config"], *manifest["layers"]]
        whole = all(len(self.state.blobs.get(blob["digest"], b"")) == blob["size"] for blob in named)
        if whole:
            self.state.manifests |= {url.path.rpartition("/")[2]: data, digest: data}
        self.answer(201 if whole else 400)


@contextmanager
def served(handler: type[Handler], state: Any) -> Iterator[str]:
    """Give HOST:PORT of a server that runs meanwhile."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.state = state  # type: ignore[attr-defined]
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{state.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
