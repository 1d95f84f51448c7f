"""A server that speaks the part of the hub's protocol that fetching a repository needs, for one folder.

By https://huggingface.co/docs/hub/api and by what huggingface_hub asks: a listing of a revision, its tree, and files
with their size, their tag and the commit in headers, from any byte on.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, and what was asked. Whoever comes without the `token` sees none, or is told that it is gated."""

    repository: str
    root: Path
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    gated: bool = False
    status: int | None = None  # of every answer
    cut: dict[str, int] = field(default_factory=dict)  # name -> bytes after which the first answer breaks off
    fetched: list[str] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """Serve a repository, at the address that `hub` has meanwhile."""

    class Handler(_Handler):
        shared = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    shared: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.shared, unquote(urlsplit(self.path).path)
        if hub.status is not None:
            self._error(hub.status, "InternalError")
            return
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            code = "GatedRepo" if hub.gated else "RepoNotFound"
            self._error(403 if hub.gated else 401, code)
            return
        api, files = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            self._info(path.removeprefix(api).removeprefix("/revision/") or "main")
        elif path.startswith(f"{api}/tree/"):
            self._json([self._entry(name) for name in hub.names()])
        elif path.startswith(files):
            revision, _, name = path.removeprefix(files).partition("/")
            self._file(revision, name, body)
        else:
            self._error(404, "RepoNotFound")

    def _info(self, revision: str) -> None:
        hub = self.shared
        commit = hub.revisions.get(revision, revision if revision in hub.revisions.values() else None)
        if commit is None:
            self._error(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": name} for name in hub.names()]
        self._json({"id": hub.repository, "modelId": hub.repository, "sha": commit, "siblings": siblings})

    def _entry(self, name: str) -> dict[str, object]:
        data = (self.shared.root / name).read_bytes()
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _file(self, revision: str, name: str, body: bool) -> None:
        hub = self.shared
        commit = hub.revisions.get(revision, revision)
        if name not in hub.names() or commit not in hub.revisions.values():
            self._error(404, "EntryNotFound")
            return
        data = (hub.root / name).read_bytes()
        start = self._start(name) if body else 0
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            hub.fetched.append(name)
            stop = hub.cut.pop(name, len(data))
            self.wfile.write(data[start:stop])
            self.close_connection = stop < len(data)

    def _start(self, name: str) -> int:
        asked = self.headers.get("Range", "")
        if asked:
            self.shared.ranges.append((name, asked))
        first = asked.removeprefix("bytes=").partition("-")[0]
        return int(first) if first.isdigit() else 0

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
