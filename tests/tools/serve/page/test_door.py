"""Who gets to the page, and to what behind it: the door before a small application that says what it was asked."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.keys import Keys
from mochi_aot.tools.serve.metrics import Metrics
from mochi_aot.tools.serve.page.door import Door

KEY = "0123456789abcdef"


@dataclass
class Service:
    """What the door needs of one."""

    keys: Keys
    is_ending: bool = False
    metrics: Metrics = field(default_factory=lambda: Metrics(lambda: 0))


async def tell(request: Request) -> Response:
    caller = request.scope["mochi_caller"].name if "mochi_caller" in request.scope else None
    return JSONResponse({"caller": caller, "authorization": request.headers.get("authorization")})


def client(service: Any) -> TestClient:
    app = Starlette(routes=[Route("/{path:path}", tell, methods=["GET", "POST", "PUT", "DELETE"])])
    app.add_middleware(Door, service=service)
    return TestClient(app, base_url="http://host:8000")


@pytest.fixture
def open_door() -> TestClient:
    return client(Service(Keys(None)))


@pytest.fixture
def locked_door(tmp_path: Path) -> TestClient:
    (tmp_path / "keys").write_text(f"alice {KEY}\nbob {KEY[::-1]}\n")
    return client(Service(Keys(tmp_path / "keys")))


def basic(text: str | bytes) -> dict[str, str]:
    data = text.encode() if isinstance(text, str) else text
    return {"Authorization": f"Basic {base64.b64encode(data).decode()}"}


@pytest.mark.parametrize(
    "path",
    [
        "/ui/gradio_api/upload",
        "/ui/gradio_api/file=/etc/passwd",
        "/ui/gradio_api/proxy=http://127.0.0.1/",
        "/ui/gradio_api/run/predict",
        "/ui/gradio_api/info",
        "/ui/gradio_api/vibe-code",
        "/ui/monitoring",
        "/ui/file/etc/passwd",
        "/ui/gradio_api/queue/join/",
        "/ui/videos/a/b/content",
        "/ui//config",
        "/ui/config\n",
    ],
)
def test_what_the_page_does_not_need_is_not_there(open_door: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        answer = open_door.request(method, path.replace("\n", "%0a"))
        assert answer.status_code == 404 and "the page is at /ui/" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ui", 200),
        ("GET", "/ui/", 200),
        ("GET", "/ui/config", 200),
        ("GET", "/ui/assets/index-1.js", 200),
        ("GET", "/ui/gradio_api/queue/data", 200),
        ("GET", "/ui/videos/video_1/content", 200),
        ("POST", "/ui/gradio_api/queue/join", 200),
        ("GET", "/ui/gradio_api/queue/join", 404),
        ("POST", "/ui/config", 404),
        ("DELETE", "/ui/gradio_api/cancel", 404),
        ("GET", "/uix", 200),
    ],
)
def test_what_the_page_needs(open_door: TestClient, method: str, path: str, status: int) -> None:
    answer = open_door.request(method, path)
    assert answer.status_code == status
    if status == 200 and path != "/uix":  # which is no path of the page
        assert answer.json()["caller"] == "anybody"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_key_is_the_password(locked_door: TestClient) -> None:
    """Whatever the name: and what is behind the door sees it as the API's clients send it."""
    for name, key in (("alice", KEY), ("", KEY), ("bob", KEY[::-1])):
        answer = locked_door.get("/ui/", headers=basic(f"{name}:{key}"))
        assert answer.json() == {"caller": "bob" if key != KEY else "alice", "authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(f"alice:{KEY}x"),
        basic(KEY),
        basic(b"alice:\xff\xfe"),
        basic(f"alice:{KEY}\nX: y"),
        {"Authorization": "Basic ?"},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": "Basic"},
    ],
)
def test_without_a_key_the_browser_is_told_to_ask_for_one(locked_door: TestClient, headers: dict[str, str]) -> None:
    answer = locked_door.get("/ui/", headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic realm=")


def test_the_api_does_not_take_what_a_browser_sends_by_itself(locked_door: TestClient, tmp_path: Path) -> None:
    """Else a page of another site could ask for videos with the key that the browser remembers."""
    headers = basic(f"alice:{KEY}")
    assert locked_door.get("/v1/videos", headers=headers).json() == {
        "caller": None,
        "authorization": headers["Authorization"],
    }
    with pytest.raises(RequestError, match="no API key that is known here"):
        Keys(tmp_path / "keys").caller(headers["Authorization"])


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://host:8000", 200),
        ("https://host:8000", 200),
        ("http://host", 403),
        ("http://evil:8000", 403),
        ("null", 403),
    ],
)
def test_no_other_site_uses_the_page(open_door: TestClient, origin: str, status: int) -> None:
    answer = open_door.post("/ui/gradio_api/queue/join", headers={"Origin": origin})
    assert answer.status_code == status
    assert open_door.get("/ui/", headers={"Origin": origin}).status_code == 200


def test_a_server_that_ends_hangs_up() -> None:
    """What is behind the door hears that its client has gone, which the client never says."""
    service: Any = Service(Keys(None))
    heard = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())

    async def silent() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    async def connect_and_end() -> None:
        scope = {"type": "http", "method": "GET", "path": "/ui/", "headers": []}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Door(application, service), scope, silent, send)
            await anyio.sleep(0.01)
            assert heard == []
            service.is_ending = True

    anyio.run(connect_and_end)
    assert heard == [{"type": "http.disconnect"}]
