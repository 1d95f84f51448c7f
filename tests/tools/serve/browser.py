"""Headless Chromium, driven by its DevTools protocol over two pipes: what a person would do with a page, and sees."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60.0  # seconds for anything; nothing here is about time
# Where to click on an element that can be seen and used, null for another one.
_MIDDLE = """
async e => {
  if (!e || e.disabled) return null
  e.scrollIntoView({block: 'center', behavior: 'instant'})
  await new Promise(requestAnimationFrame)
  const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2
  return e.contains(document.elementFromPoint(x, y)) ? [x, y] : null
}
"""


class Browser:
    """One page. `asked` are the addresses of all its requests, `failed` are those that had no answer or an error."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0
        self.asked: list[str] = []
        self.failed: list[str] = []
        self.told: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session: str | None = None
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", {"url": url})

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        """Take a window's size, and what its user likes better, light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", {"features": [feature]})

    def downloads(self, folder: Path) -> None:
        """Put what is downloaded into a folder."""
        session, self._session = self._session, None
        self._call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        self._session = session

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited."""
        words = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = self._call("Runtime.evaluate", words)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return the value of an expression once it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = self.ask(f"Promise.resolve({expression}).then(value => value || null)")
            if value is not None:  # an element comes as an empty object
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; the page has {self.ask('document.body.innerText')!r}")

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        box, before = None, None
        while box is None or box != before:  # what moves is not hit
            before, box = box, self.wait(f"({_MIDDLE})(document.querySelector({selector!r}))")
        for kind in ("mousePressed", "mouseReleased"):
            place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", {"type": kind, **place})

    def write(self, selector: str, text: str) -> None:
        """Write into a field in the place of what it has."""
        self.wait(f"document.querySelector({selector!r}) !== null")
        self.ask(f"(e => {{e.focus(); e.select()}})(document.querySelector({selector!r}))")
        self._call("Input.insertText", {"text": text})

    def picture(self) -> bytes:
        """Return a PNG of the window."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"])

    def _call(self, method: str, words: dict[str, Any] | None = None) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": words or {}}
        if getattr(self, "_session", None) is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            data = os.read(self._back, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        words = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(words["request"]["url"])
            case "Network.responseReceived" if words["response"]["status"] >= 400:
                self.failed.append(f"{words['response']['status']} {words['response']['url']}")
            case "Log.entryAdded" if words["entry"]["level"] == "error":
                self.told.append(words["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.told.append(words["exceptionDetails"].get("text", ""))
            case "Runtime.consoleAPICalled" if words["type"] == "error":
                self.told.append(str([item.get("value", item.get("description")) for item in words["args"]]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile is in a folder, without a network but for this machine."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
    more = ["--remote-debugging-pipe", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]
    names = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
    command = ["bash", "-c", names, "bash", str(to_read), str(back_write), CHROMIUM, *flags, *more, "about:blank"]
    with subprocess.Popen(
        command, pass_fds=(to_read, back_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        os.close(to_read)
        os.close(back_write)
        try:
            yield Browser(to_write, back_read)
        finally:
            process.kill()
            os.close(to_write)
            os.close(back_read)
