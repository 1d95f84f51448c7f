"""The page in a real browser, over the real server: a video made there plays, and is the one that mochi-run makes."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.serve.browser import CHROMIUM, Browser, browser
from tests.tools.serve.test_server import PATIENCE, Server, by_mochi_run, served

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to use the page with")
READY = "document.querySelector('#make') && !document.querySelector('#make').disabled"
PLAYS = "(v => v && v.readyState >= 3 && v.currentTime > 0 && [v.videoWidth, v.videoHeight, v.duration])"
# Notes each state of the job that the page shows.
WATCH = """
window.seen = []
new MutationObserver(() => {
  const e = document.querySelector('#progress [data-job]')
  if (e) window.seen.push([e.dataset.status, e.querySelector('progress').value])
}).observe(document.body, {childList: true, subtree: true})
"""


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(bundle, tmp_path_factory.mktemp("server") / "state", "--ui") as server:
        yield server


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def shows(part: str, status: str) -> str:
    return f"document.querySelector('#{part} [data-status={status}]')"


@needs_browser
def test_a_video_made_there_plays(server: Server, bundle: Path, page: Browser, tmp_path: Path) -> None:
    """Queued, watched, played, downloaded, and in the gallery; bit for bit the video of mochi-run."""
    page.size(1280, 900)
    page.downloads(tmp_path)
    page.open(f"{server.url}/")
    page.wait(READY)
    page.write("#prompt textarea", "a red fox")
    for field, text in (("steps", "4"), ("guidance", "4.5"), ("fps", "10"), ("seed", "7")):
        page.write(f"#{field} input, #{field} textarea", text)
    page.write("#negative textarea", "blurry")
    page.click("#make")
    page.wait(shows("progress", "completed"))
    # 13 frames at 10 a second, of the first geometry.
    assert page.wait(f"{PLAYS}(document.querySelector('#player video'))") == [32, 16, 1.3]
    name = page.ask("document.querySelector('#progress [data-job]').dataset.job")
    assert page.wait(f"document.querySelector('#gallery [data-job={name}] video').readyState > 0")
    for link in ("content", "record"):
        page.click(f"#player a[href$={link}]")
    video, told = tmp_path / f"{name}.mp4", tmp_path / f"{name}.json"
    end = time.monotonic() + PATIENCE
    while not (video.exists() and told.exists()) and time.monotonic() < end:
        page.ask("1")
        time.sleep(0.05)
    words = ["--prompt", "a red fox", "--negative-prompt", "blurry", "--steps", "4", "--seed", "7"]
    expected, record = by_mochi_run(bundle, tmp_path, *words, "--guidance-scale", "4.5", "--fps", "10")
    assert video.read_bytes() == expected
    found = json.loads(told.read_text())["arguments"]
    assert {**found, "output": ""} == {**record["arguments"], "output": ""}


@needs_browser
def test_a_video_is_watched_and_one_is_cancelled(server: Server, page: Browser) -> None:
    """They wait for more urgent ones, which go away: one runs, and its steps are seen. The page follows the last."""
    body = {"prompt": "a red fox", "num_inference_steps": 1000, "priority": 1}
    urgent = [server.ask("POST", "/v1/videos", body).json["id"] for _ in range(30)]
    page.open(f"{server.url}/ui/")
    page.wait(READY)
    page.write("#prompt textarea", "one")
    page.click("#make")
    page.wait(shows("progress", "queued"))
    page.click("#cancel")
    page.wait(shows("progress", "cancelled"))
    page.wait("document.querySelector('#cancel').disabled")
    page.write("#prompt textarea", "<b>two</b>")
    page.write("#steps input", "1000")
    page.click("#make")
    page.wait(shows("progress", "queued"))
    page.ask(WATCH)
    for name in urgent:
        server.ask("DELETE", f"/v1/videos/{name}")
    page.wait(shows("progress", "completed"))
    seen = page.ask("window.seen")
    running = [step for status, step in seen if status == "in_progress"]
    # A quick machine makes all steps between two looks of the page: it may see none.
    assert running == sorted(running), seen
    assert {status for status, _ in seen} <= {"queued", "in_progress", "completed"} and seen[-1] == ["completed", 1000]
    page.open(f"{server.url}/ui/")
    page.wait(shows("progress", "completed"))
    prompts = page.ask("[...document.querySelectorAll('#gallery figure p')].map(e => e.textContent)")
    assert prompts[:2] == ["<b>two</b>", "one"]


@needs_browser
def test_what_is_wrong_is_said_there(server: Server, page: Browser) -> None:
    page.open(f"{server.url}/ui/")
    page.wait(READY)
    page.write("#prompt textarea", "a fox")
    page.write("#seed input, #seed textarea", "<i>x</i>")
    page.click("#make")
    page.wait("document.body.innerText.includes(\"seed is '<i>x</i>', expected a whole number\")")
    page.write("#prompt textarea", " ")
    page.click("#make")
    page.wait("document.body.innerText.includes('there is no prompt')")


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_all_comes_from_the_server(
    server: Server, page: Browser, width: int, scheme: str
) -> None:
    page.size(width, 900, scheme)
    page.open(f"{server.url}/ui/")
    page.wait(READY)
    assert page.ask("document.documentElement.scrollWidth") <= width
    back = page.ask("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, back.removeprefix("rgb(").rstrip(")").split(","))) < 60) == (scheme == "dark")
    own = (server.url + "/", "data:", "blob:", "about:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    # Gradio's script says of a page that is left that its streams ended.
    told = [text for text in page.told if "AbortError" not in text and "errored out" not in text]
    assert page.failed == [] and told == []


def test_the_server_ends_while_a_page_is_open(server: Server) -> None:
    """The address of the page leads to it; what the page does not need of Gradio is not there."""
    page = server.ask("GET", "/")
    assert b"mochi-serve" in page.body and "default-src 'self'" in page.headers["content-security-policy"]
    assert server.ask("GET", "/ui/gradio_api/info").status == 404
    assert server.ask("GET", "/none").json["error"]["message"].startswith("there is no such path here")


def test_without_the_option_gradio_is_not_imported(bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from mochi_aot.tools.serve import app, run, service, settings\n"
        "given = settings.Settings({'toy': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
        "app.application(service.Service(given))\n"
        "print(*({'gradio', 'fastapi', 'pandas'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script, str(bundle), str(tmp_path / "state")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
