"""The clock of timelines; tests/runtime/test_ledger.py has their numbers and traces."""

import time
from pathlib import Path

import pytest

from mochi_aot.artifacts import timeline
from mochi_aot.artifacts.timeline import process_start


def test_the_clock_starts_with_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert process_start() < time.perf_counter()
    assert process_start() == pytest.approx(process_start(), abs=0.01)
    monkeypatch.setattr(timeline, "Path", lambda name: tmp_path / "absent")
    assert process_start() == pytest.approx(time.perf_counter(), abs=1.0)
