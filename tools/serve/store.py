"""The jobs on disk: a queue that outlives the process, in one SQLite file, and the finished videos beside it.

A job is accepted once its row is on the disk. Its files appear whole (`Video.save`), and the row says "completed" only
after them, so that a video is served whole or not at all, wherever the process is killed. What a worker notes of a job
does not wait for the disk: a process that is killed loses none of it, and a machine that fails makes the video again.
"""

import fcntl
import json
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mochi_aot.tools.serve.errors import RequestError, StateFolderError, StoreError
from mochi_aot.tools.serve.keys import Caller

QUEUED, RUNNING, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
CANCELLING, CANCELLED = "cancelling", "cancelled"
UNFINISHED = (QUEUED, RUNNING, CANCELLING)

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    arguments TEXT NOT NULL,
    fps REAL NOT NULL,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    tries INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX jobs_by_status ON jobs (status, model, priority);
"""
# A job that the server died of comes after all others of its priority.
_ORDER = "ORDER BY priority DESC, tries, number"


@dataclass(frozen=True)
class StoredJob:
    """A job as its row has it.

    `arguments` are keywords of `VideoPipeline.__call__`, times are seconds since 1970; `error` has `code` and
    `message`.
    """

    number: int
    id: str
    owner: str
    model: str
    arguments: Mapping[str, Any]
    fps: float
    priority: int
    status: str
    created: float
    started: float | None
    finished: float | None
    tries: int
    bytes: int
    error: Mapping[str, str] | None


class JobStore:
    """The jobs of one state folder, which one process may have open at a time. Any thread may call any method.

    All of them raise StoreError where the file cannot be read or written.
    """

    def __init__(self, folder: Path, max_queue: int) -> None:
        """Open the folder, or make it. Jobs that were running when the last process ended are queued again.

        Raise StateFolderError where another process has it, OSError where it cannot be written.
        """
        self.videos = folder / "videos"
        self.videos.mkdir(parents=True, exist_ok=True)
        self._max_queue = max_queue
        self._lock = threading.Lock()
        self._guard = (folder / "lock").open("a")
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = _opened(folder / "jobs.sqlite3")
        except BaseException as error:
            self._guard.close()
            if isinstance(error, BlockingIOError):
                raise StateFolderError(f"{folder} is in use by another server; give --state with another one") from None
            raise
        self._recover()

    def close(self) -> None:
        """Close the files. Closing again does nothing."""
        with self._lock:
            self._database.close()
            self._guard.close()

    def add(
        self, caller: Caller, model: str, arguments: Mapping[str, Any], fps: float, priority: int, retry_after: int
    ) -> StoredJob:
        """Return a new job, which is on the disk by then.

        Raise RequestError with status 429, and `retry_after` in seconds, where the queue is full, or the caller has as
        many unfinished jobs as it may.
        """
        with self._change() as database:
            if _count(database, "status = ?", QUEUED) >= self._max_queue:
                raise RequestError(429, f"the queue is full: {self._max_queue} jobs wait", retry_after=retry_after)
            if caller.jobs is not None:
                own = _count(database, "owner = ? AND status IN (?, ?, ?)", caller.name, *UNFINISHED)
                if own >= caller.jobs:
                    text = f"{own} jobs of this key are unfinished, and it may have {caller.jobs}"
                    raise RequestError(429, text, retry_after=retry_after)
            name = f"video_{uuid.uuid4().hex}"
            database.execute(
                "INSERT INTO jobs (id, owner, model, arguments, fps, priority, status, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, caller.name, model, json.dumps(arguments), fps, priority, QUEUED, time.time()),
            )
            return _one(database, "id = ?", name)

    def take(self, *models: str) -> StoredJob | None:
        """Return the next job of these models, which is running from now on; None where none waits."""
        any_of = ", ".join("?" for _ in models)
        with self._change(waits=False) as database:
            row = database.execute(
                f"SELECT number FROM jobs WHERE status = ? AND model IN ({any_of}) {_ORDER} LIMIT 1", (QUEUED, *models)
            ).fetchone()
            if row is None:
                return None
            change = "UPDATE jobs SET status = ?, started = ?, tries = tries + 1 WHERE number = ?"
            database.execute(change, (RUNNING, time.time(), row["number"]))
            return _one(database, "number = ?", row["number"])

    def is_wanted(self, job: StoredJob) -> bool:
        """Tell whether a running job is still to be finished: neither cancelled nor deleted."""
        with self._held() as database:
            return _count(database, "number = ? AND status = ?", job.number, RUNNING) == 1

    def put_back(self, job: StoredJob) -> None:
        """Queue a running job again, which stopped because the server ends."""
        self._end(job, QUEUED, "started = NULL, tries = tries - 1")

    def complete(self, job: StoredJob) -> bool:
        """Say that a job's files are written; False where it was cancelled or deleted meanwhile, and they are gone."""
        size = self.video(job).stat().st_size + self.record(job).stat().st_size
        if self._end(job, COMPLETED, "finished = ?, bytes = ?", time.time(), size):
            return True
        self.drop(job)
        return False

    def fail(self, job: StoredJob, code: str, message: str) -> bool:
        """Say why a job failed; False where it was cancelled or deleted meanwhile."""
        error = json.dumps({"code": code, "message": message})
        ended = self._end(job, FAILED, "finished = ?, error = ?", time.time(), error)
        self._remove_files(job.id)
        if not ended:
            self.drop(job)
        return ended

    def drop(self, job: StoredJob) -> None:
        """Note that a running job, which was cancelled or deleted, has stopped."""
        self._remove_files(job.id)
        with self._change() as database:
            change = "UPDATE jobs SET status = ?, finished = ? WHERE number = ? AND status = ?"
            database.execute(change, (CANCELLED, time.time(), job.number, CANCELLING))

    def cancel(self, caller: Caller, name: str) -> StoredJob | None:
        """Cancel a queued job, or ask a running one to stop; None where the caller has no such unfinished job."""
        with self._change() as database:
            job = _find(database, caller, name)
            if job is None or job.status not in UNFINISHED:
                return None
            if job.status == QUEUED:
                change = "UPDATE jobs SET status = ?, finished = ? WHERE number = ?"
                database.execute(change, (CANCELLED, time.time(), job.number))
            else:
                database.execute("UPDATE jobs SET status = ? WHERE number = ?", (CANCELLING, job.number))
            return _one(database, "number = ?", job.number)

    def delete(self, caller: Caller, name: str) -> StoredJob | None:
        """Forget a job and its files, stopping it if it runs; return what it was, None where there is no such one."""
        with self._change() as database:
            job = _find(database, caller, name)
            if job is None:
                return None
            database.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
        self._remove_files(job.id)
        return job

    def find(self, caller: Caller, name: str) -> StoredJob | None:
        """Return a caller's job; None where it has none of that id."""
        with self._held() as database:
            return _find(database, caller, name)

    def list(self, caller: Caller, limit: int, after: str | None = None, newest_first: bool = True) -> list[StoredJob]:
        """Return up to `limit` of a caller's jobs, those that follow `after` in this order."""
        compare, order = ("<", "DESC") if newest_first else (">", "ASC")
        with self._held() as database:
            where, values = "owner = ?", [caller.name]
            if after is not None:
                where += f" AND number {compare} (SELECT number FROM jobs WHERE owner = ? AND id = ?)"
                values += [caller.name, after]
            query = f"SELECT * FROM jobs WHERE {where} ORDER BY number {order} LIMIT ?"
            return [_job(row) for row in database.execute(query, (*values, limit))]

    def waiting(self) -> int:
        """Return how many jobs are queued."""
        with self._held() as database:
            return _count(database, "status = ?", QUEUED)

    def sweep(self, keep_seconds: float, keep_bytes: int) -> None:
        """Forget what ended before `keep_seconds`, and the oldest videos where all have more than `keep_bytes`."""
        ended = (COMPLETED, FAILED, CANCELLED)
        with self._change() as database:
            rows = database.execute(
                "SELECT number, id, bytes, finished FROM jobs WHERE status IN (?, ?, ?) ORDER BY finished DESC", ended
            ).fetchall()
            total, gone = 0, []
            for index, row in enumerate(rows):
                total += row["bytes"]
                if row["finished"] < time.time() - keep_seconds or (total > keep_bytes and row["bytes"] and index):
                    gone.append(row)
            database.executemany("DELETE FROM jobs WHERE number = ?", [(row["number"],) for row in gone])
        for row in gone:
            self._remove_files(row["id"])

    def video(self, job: StoredJob) -> Path:
        """Return where a job's video is, once it is completed."""
        return self.videos / f"{job.id}.mp4"

    def record(self, job: StoredJob) -> Path:
        """Return where a job's record is, once it is completed."""
        return self.videos / f"{job.id}.json"

    def _end(self, job: StoredJob, status: str, more: str, *values: object) -> bool:
        with self._change(waits=False) as database:
            change = f"UPDATE jobs SET status = ?, {more} WHERE number = ? AND status = ?"
            return database.execute(change, (status, *values, job.number, RUNNING)).rowcount == 1

    def _recover(self) -> None:
        """Queue again what was running, and remove files that belong to no completed job."""
        with self._change() as database:
            database.execute("UPDATE jobs SET status = ?, started = NULL WHERE status = ?", (QUEUED, RUNNING))
            change = "UPDATE jobs SET status = ?, finished = ? WHERE status = ?"
            database.execute(change, (CANCELLED, time.time(), CANCELLING))
            rows = database.execute("SELECT id FROM jobs WHERE status = ?", (COMPLETED,))
            kept = {f"{row['id']}{suffix}" for row in rows for suffix in (".mp4", ".json")}
        for path in self.videos.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in kept:
                path.unlink(missing_ok=True)

    def _remove_files(self, name: str) -> None:
        for suffix in (".mp4", ".json"):
            (self.videos / f"{name}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Let no other thread use the database meanwhile. Raise StoreError for what SQLite cannot do."""
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise StoreError(str(error)) from error

    @contextmanager
    def _change(self, waits: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk at the end of the block if it `waits`; nothing of it after an exception."""
        with self._held() as database:
            database.execute(f"PRAGMA synchronous = {'FULL' if waits else 'NORMAL'}")
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a commit that fails may leave it open
                    database.execute("ROLLBACK")
                raise


def _opened(path: Path) -> sqlite3.Connection:
    """Return the database, with its table."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        elif version != _VERSION:
            raise StateFolderError(f"{path} is of version {version}, expected {_VERSION}: another mochi-aot wrote it")
    except sqlite3.DatabaseError as error:
        database.close()
        raise StateFolderError(f"{path} cannot be used: {error}; give --state with another folder") from None
    except BaseException:
        database.close()
        raise
    return database


def _count(database: sqlite3.Connection, where: str, *values: object) -> int:
    return int(database.execute(f"SELECT COUNT(*) FROM jobs WHERE {where}", values).fetchone()[0])


def _one(database: sqlite3.Connection, where: str, value: object) -> StoredJob:
    return _job(database.execute(f"SELECT * FROM jobs WHERE {where}", (value,)).fetchone())


def _find(database: sqlite3.Connection, caller: Caller, name: str) -> StoredJob | None:
    row = database.execute("SELECT * FROM jobs WHERE owner = ? AND id = ?", (caller.name, name)).fetchone()
    return None if row is None else _job(row)


def _job(row: sqlite3.Row) -> StoredJob:
    error = None if row["error"] is None else json.loads(row["error"])
    return StoredJob(**{**dict(row), "arguments": json.loads(row["arguments"]), "error": error})
