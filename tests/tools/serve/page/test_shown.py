"""What the page shows of jobs: whatever is in a prompt or an error stays text, and each status has its words."""

import re
from html.parser import HTMLParser

import pytest

from mochi_aot.tools.serve.page import shown
from mochi_aot.tools.serve.store import StoredJob
from mochi_aot.tools.serve.worker import Progress

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>' &amp;\x1b[2J"


class Reader(HTMLParser):
    """Collects the elements, their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def job(status: str, prompt: str = "a fox", error: str | None = None) -> StoredJob:
    arguments = {"prompt": prompt, "seed": 7, "num_inference_steps": 24, "height": 64, "width": 96, "num_frames": 19}
    told = None if error is None else {"code": "BackendError", "message": error}
    return StoredJob(1, "video_1", "anybody", "toy", arguments, 10.0, 0, status, 0.0, 0.0, None, 1, 0, told)


def test_hostile_text_stays_text() -> None:
    for html in (
        shown.gallery([job("completed", HOSTILE)]),
        shown.progress_bar(job("failed", error=HOSTILE), Progress("video_1", "failed", 0, 24)),
        shown.note(HOSTILE),
    ):
        read = Reader(html)
        assert HOSTILE in read.text and not {"script", "img"} & set(read.tags)


@pytest.mark.parametrize(
    ("status", "progress", "words"),
    [
        ("queued", Progress("video_1", "wait", 0, 24), "waits in the queue, step 0 of 24"),
        ("in_progress", Progress("video_1", "encode", 0, 24), "reads the prompt, step 0 of 24"),
        ("in_progress", Progress("video_1", "denoise", 4, 24, 1.5), "makes the video, step 4 of 24, 30 s left"),
        ("in_progress", Progress("video_1", "decode", 24, 24, 1.5), "decodes the video, step 24 of 24"),
        ("cancelling", Progress("video_1", "denoise", 4, 24, 0.0), "stops after this step, step 4 of 24"),
        ("cancelled", Progress("video_1", "cancelled", 0, 24), "cancelled"),
        ("completed", Progress("video_1", "completed", 24, 24), "done"),
    ],
)
def test_how_a_job_gets_on(status: str, progress: Progress, words: str) -> None:
    html = shown.progress_bar(job(status), progress)
    assert Reader(html).text == words
    assert re.search(r'value="(\d+)" max="24"', html)[1] == str(progress.step)  # type: ignore[index]


def test_a_video_has_what_can_be_downloaded_and_the_others_have_none() -> None:
    files = ["/ui/videos/video_1/content", "/ui/videos/video_1/record"]
    assert Reader(shown.player(job("completed"))).links == [files[0], *files]
    assert Reader(shown.gallery([job("completed")])).links == [files[0], *files]
    for status in ("queued", "in_progress", "cancelling", "cancelled", "failed"):
        assert Reader(shown.player(job(status)) + shown.gallery([job(status)])).links == []
    assert Reader(shown.gallery([])).text == "no videos yet"
    made = Reader(shown.gallery([job("completed")])).text
    assert "a fox" in made and "toy: seed 7, 24 steps, 96x64x19" in made
