"""The queue on disk, by itself: order, bounds, what a second process finds, and what is forgotten."""

import sqlite3
from pathlib import Path

import pytest

from mochi_aot.tools.serve.errors import RequestError, StateFolderError
from mochi_aot.tools.serve.keys import Caller
from mochi_aot.tools.serve.store import JobStore, StoredJob

ANN, BOB = Caller("ann"), Caller("bob", jobs=1)
ARGUMENTS = {"prompt": "fox", "seed": 1}


def added(store: JobStore, caller: Caller = ANN, priority: int = 0, model: str = "m") -> StoredJob:
    return store.add(caller, model, ARGUMENTS, 30.0, priority, retry_after=7)


def taken(store: JobStore) -> StoredJob:
    job = store.take("m")
    assert job is not None
    return job


def written(store: JobStore, job: StoredJob, size: int) -> None:
    store.video(job).write_bytes(b"v" * size)
    store.record(job).write_text("{}")


def test_jobs_are_taken_by_priority_and_then_in_order(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    first, urgent, second, other = added(store), added(store, priority=5), added(store), added(store, model="n")
    assert [taken(store).id for _ in range(3)] == [urgent.id, first.id, second.id]
    assert store.take("m") is None
    job = store.take("n")
    assert job is not None and (job.id, job.status, job.arguments) == (other.id, "in_progress", ARGUMENTS)


def test_a_full_queue_and_a_full_share_are_refused(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 2)
    added(store, BOB)
    with pytest.raises(RequestError, match=r"1 jobs of this key are unfinished, and it may have 1") as refused:
        added(store, BOB)
    assert (refused.value.status, refused.value.retry_after) == (429, 7)
    taken(store)
    with pytest.raises(RequestError, match=r"may have 1"):
        added(store, BOB)  # a running one counts too
    added(store), added(store)
    with pytest.raises(RequestError, match=r"the queue is full: 2 jobs wait"):
        added(store)
    assert store.waiting() == 2


def test_one_caller_sees_nothing_of_another(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    job = added(store, ANN)
    assert store.find(BOB, job.id) is store.cancel(BOB, job.id) is store.delete(BOB, job.id) is None
    assert store.list(BOB, 10) == [] and [item.id for item in store.list(ANN, 10)] == [job.id]


def test_a_process_that_ends_anyhow_leaves_all_accepted_jobs(tmp_path: Path) -> None:
    """The second store sees what a kill leaves: the first one's files are let go without its doing anything."""
    store = JobStore(tmp_path, 10)
    waiting, done, stopped = added(store, priority=-1), added(store, priority=3), added(store, priority=2)
    written(store, taken(store), 5)
    assert store.complete(done)
    assert taken(store).id == stopped.id and store.cancel(ANN, stopped.id) is not None
    died = added(store)
    assert taken(store).id == died.id
    written(store, died, 5)  # the video was whole, and the row did not say so yet
    (tmp_path / "videos/.new-x").mkdir()
    (tmp_path / "videos/.new-x/half.mp4").touch()
    store._guard.close()

    again = JobStore(tmp_path, 10)
    status = {job.id: job.status for job in again.list(ANN, 10)}
    assert status == {waiting.id: "queued", done.id: "completed", stopped.id: "cancelled", died.id: "queued"}
    assert {path.name for path in (tmp_path / "videos").iterdir()} == {f"{done.id}.mp4", f"{done.id}.json"}
    fresh = added(again)  # of the same priority: the job that the process died of comes after it
    assert [taken(again).id for _ in range(3)] == [fresh.id, died.id, waiting.id]


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    with pytest.raises(StateFolderError, match="is in use by another server"):
        JobStore(tmp_path, 10)
    store.close()
    JobStore(tmp_path, 10).close()


@pytest.mark.parametrize("content", [b"no database at all, and long enough to be read as one", None])
def test_a_file_of_something_else_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    if content is None:
        sqlite3.connect(path).execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(content * 100)
    with pytest.raises(StateFolderError, match=r"jobs\.sqlite3"):
        JobStore(tmp_path, 10)


def test_a_job_that_is_deleted_or_cancelled_while_it_runs_leaves_no_files(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    for stop in (store.delete, store.cancel):
        job = added(store)
        assert taken(store).id == job.id and store.is_wanted(job)
        assert stop(ANN, job.id) is not None and not store.is_wanted(job)
        written(store, job, 5)
        assert not store.complete(job)
    assert list((tmp_path / "videos").iterdir()) == []
    assert [item.status for item in store.list(ANN, 10)] == ["cancelled"]
    assert store.cancel(ANN, job.id) is None  # it has ended


def test_a_job_that_is_put_back_runs_before_later_ones(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    job = added(store)
    added(store)
    store.put_back(taken(store))
    assert taken(store).id == job.id


def test_old_and_large_results_are_forgotten(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    jobs = [added(store) for _ in range(3)]
    for _ in jobs:
        job = taken(store)
        written(store, job, 98)  # and 2 bytes of the record
        store.complete(job)
    store.sweep(3600, 250)
    assert [item.id for item in store.list(ANN, 10, newest_first=False)] == [job.id for job in jobs[1:]]
    store.sweep(3600, 1)  # the newest one stays in any case
    assert [item.id for item in store.list(ANN, 10)] == [jobs[2].id]
    store.sweep(-1, 250)
    assert store.list(ANN, 10) == [] and list((tmp_path / "videos").iterdir()) == []


def test_pages_of_a_list(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 10)
    names = [added(store).id for _ in range(4)]
    assert [job.id for job in store.list(ANN, 2)] == [names[3], names[2]]
    assert [job.id for job in store.list(ANN, 9, after=names[2])] == [names[1], names[0]]
    assert [job.id for job in store.list(ANN, 9, after=names[2], newest_first=False)] == [names[3]]
    assert store.list(ANN, 9, after="unknown") == []
