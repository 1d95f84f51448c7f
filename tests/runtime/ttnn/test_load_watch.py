"""A load that gets no further is told once, by its file; others are not."""

import logging
import time
from pathlib import Path

import pytest

from mochi_aot.runtime.ttnn.load_watch import LoadWatch


def wait_for(caplog: pytest.LogCaptureFixture, count: int) -> None:
    """Until so many messages are there; a test that waits for ever fails by its last assertion."""
    for _ in range(200):
        if len(caplog.messages) >= count:
            return
        time.sleep(0.05)


def test_a_stalled_load_is_told_once_by_its_file(caplog: pytest.LogCaptureFixture) -> None:
    watch = LoadWatch(0.1)
    with caplog.at_level(logging.WARNING, "mochi_aot"), watch.watching():
        for name in ("a", "b"):
            watch.begin(Path(name))
            wait_for(caplog, 1 if name == "a" else 2)
            time.sleep(0.5)  # in which it is not told again
        watch.begin(None)
        time.sleep(0.5)
    assert caplog.messages == [f"no progress for 0.1 s while {name} is loaded" for name in ("a", "b")]


def test_loads_that_get_on_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    watch = LoadWatch()
    with caplog.at_level(logging.WARNING, "mochi_aot"), watch.watching():
        for number in range(100):
            watch.begin(Path(str(number)))
    assert caplog.messages == []
