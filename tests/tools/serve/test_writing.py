"""A video is written while the next one is made; what goes wrong with it is its own job's, or the host's."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.runtime.pipeline import Usage
from mochi_aot.tools.serve import worker as workers
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.metrics import Metrics
from mochi_aot.tools.serve.store import JobStore, StoredJob
from mochi_aot.tools.serve.worker import Keeping, Worker
from tests.tools.serve.servers import PATIENCE

ANYBODY = Caller("anybody")


@dataclass
class Disk:
    """Where videos are saved: not before `works` is set, and never for names in `broken`."""

    works: threading.Event = field(default_factory=threading.Event)
    broken: dict[str, Exception] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)  # prompts, in the order in which the device came to them


@dataclass(frozen=True)
class FakeVideo:
    prompt: str
    disk: Disk
    record: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path, fps: float, force: bool) -> None:
        assert self.disk.works.wait(PATIENCE)
        if self.prompt in self.disk.broken:
            raise self.disk.broken[self.prompt]
        path.write_bytes(b"mp4")
        path.with_suffix(".json").write_text("{}")


class FakePipe:
    mock = False

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __enter__(self) -> "FakePipe":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def usage(self) -> Usage:
        return Usage(0, 0, None)

    def __call__(self, prompt: str, callback_on_step_end: Any = None, **options: Any) -> FakeVideo:
        self._disk.made.append(prompt)
        if callback_on_step_end is not None:
            callback_on_step_end(self, 0, 1.0, {})
        return FakeVideo(prompt, self._disk)


@dataclass
class Bench:
    """A worker with three jobs, and what it told."""

    disk: Disk
    store: JobStore
    worker: Worker
    jobs: list[StoredJob]
    failures: list[BaseException]

    def statuses(self) -> list[str | None]:
        found = (self.store.find(ANYBODY, job.id) for job in self.jobs)
        return [job.status if job else None for job in found]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    disk, failures = Disk(), []  # type: ignore[var-annotated]
    monkeypatch.setattr(workers, "load", lambda path, device: FakePipe(disk))
    monkeypatch.setattr(workers, "describe", lambda path: None)
    store = JobStore(tmp_path, 10)
    told = (Metrics(store.waiting), lambda: None, lambda: None, failures.append)
    worker = Worker("toy", tmp_path / "b", {}, None, store, Keeping(1e9, 1 << 30), *told)
    jobs = [
        store.add(ANYBODY, "toy", {"prompt": prompt, "num_inference_steps": 1}, 30.0, 0, 1)
        for prompt in ("first", "second", "third")
    ]
    worker.start()
    yield Bench(disk, store, worker, jobs, failures)
    disk.works.set()
    worker.end()
    worker.join(PATIENCE)
    store.close()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_next_video_is_made_while_one_is_written(bench: Bench) -> None:
    """The third waits: a host's memory holds two videos."""
    second = bench.jobs[1].id
    until(lambda: second in bench.worker.progress and bench.worker.progress[second].phase == "write")
    time.sleep(0.1)  # in which the third would begin
    assert bench.disk.made == ["first", "second"]
    assert bench.statuses() == ["in_progress", "in_progress", "queued"]
    assert bench.worker.progress[bench.jobs[0].id].phase == "write"
    bench.disk.works.set()
    until(lambda: bench.statuses() == ["completed"] * 3)
    assert bench.disk.made == ["first", "second", "third"] and bench.worker.progress == {}


def test_a_video_that_cannot_be_written_fails_alone(bench: Bench) -> None:
    bench.disk.broken["first"] = RuntimeError("a fault of this video")
    bench.disk.works.set()
    until(lambda: bench.statuses() == ["failed", "completed", "completed"])
    assert bench.failures == []


def test_a_disk_that_is_full_ends_the_worker_and_keeps_all_jobs(bench: Bench, tmp_path: Path) -> None:
    bench.disk.broken["first"] = OSError(28, "No space left on device")
    bench.disk.works.set()
    until(lambda: bool(bench.failures))
    bench.worker.join(PATIENCE)
    assert bench.failures == [bench.disk.broken["first"]] and not bench.worker.is_alive()
    bench.store.close()
    again = JobStore(tmp_path, 10)
    assert {job.status for job in again.list(ANYBODY, 9)} == {"queued"}
    again.close()


def test_a_server_that_ends_has_its_last_video_written(bench: Bench) -> None:
    """A job that was cancelled while its video was being written leaves none."""
    first = bench.jobs[0].id
    until(lambda: first in bench.worker.progress and bench.worker.progress[first].phase == "write")
    until(lambda: bench.disk.made == ["first", "second"])
    bench.store.cancel(ANYBODY, bench.jobs[1].id)
    bench.worker.end()
    bench.disk.works.set()
    bench.worker.join(PATIENCE)
    assert bench.statuses() == ["completed", "cancelled", "queued"]
    assert [path.name for path in bench.store.videos.glob("*.mp4")] == [f"{first}.mp4"]
