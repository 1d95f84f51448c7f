"""What the dialects share: the callers, the queue, the workers, and word of every change."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from mochi_aot import BackendError, BundleInfo, MochiError
from mochi_aot.tools.serve.errors import RequestError
from mochi_aot.tools.serve.keys import Caller, Keys
from mochi_aot.tools.serve.metrics import Metrics
from mochi_aot.tools.serve.settings import Settings
from mochi_aot.tools.serve.store import COMPLETED, QUEUED, JobStore, StoredJob
from mochi_aot.tools.serve.wanted import read_wanted, shown
from mochi_aot.tools.serve.worker import Keeping, Progress, Worker

_LOG = logging.getLogger("mochi_aot")
_LOOK = 1.0  # seconds between two looks at the workers
_GRACE = 5.0  # seconds of trouble after which the server ends: what watches its liveness has seen it by then


class Service:
    """A store, and a worker for each bundle. Methods may be called from any thread, coroutines in the event loop."""

    def __init__(self, settings: Settings) -> None:
        """Open the store and read the keys; `start` loads. Raise StateFolderError, KeysError or OSError."""
        self.settings, self.keys = settings, Keys(settings.keys)
        self.store = JobStore(settings.state, settings.max_queue)
        self.metrics = Metrics(self.store.waiting)
        self.is_ending = False
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self._was_ready, self._closed = False, threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._change = asyncio.Event()
        self.version = 0  # counts what there is to tell: changes of jobs, and how far the running ones are
        self.jobs_version = 0  # counts the changes of jobs in the store alone
        keeping = Keeping(3600 * settings.keep_hours, settings.keep_bytes)
        told = (self.store, keeping, self.metrics, self._changed, self._came_further, self._gone_wrong)
        first = next(iter(settings.bundles))
        self.workers = {
            name: Worker(name, path, settings.styles if name == first else {}, settings.device, *told)
            for name, path in settings.bundles.items()
        }
        self.models = {model: worker for worker in self.workers.values() for model in worker.models}

    def start(self) -> None:
        """Begin to load all bundles, and to watch the workers."""
        for worker in self.workers.values():
            worker.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell in which event loop `changes` is awaited."""
        self._loop = loop
        self._tell()
        if self.failure is not None:
            self.on_failure()

    def end(self) -> None:
        """Take no more jobs, and let the workers end after their step."""
        self.is_ending = True
        for worker in self.workers.values():
            worker.end()
        self._changed()

    def close(self) -> None:
        """Wait until the workers have put their jobs back, and close the store; not for a worker that is stuck."""
        self.end()
        self._closed.set()
        for worker in self.workers.values():
            while worker.is_alive() and worker.stuck(self.settings.step_limit) is None:
                worker.join(_LOOK)
        self.store.close()

    @property
    def is_stuck(self) -> bool:
        """Whether a worker goes on although the service was closed: a device holds it."""
        return any(worker.is_alive() for worker in self.workers.values())

    def is_ready(self) -> bool:
        """Tell whether weights are resident and a step was done, of each bundle, and jobs are taken."""
        ready = not self.is_ending and all(worker.is_ready for worker in self.workers.values())
        self.metrics.ready.set(ready)
        return ready

    def trouble(self) -> str | None:
        """Return why the process should be started anew; None where all is well."""
        troubles = (worker.trouble(self.settings.step_limit) for worker in self.workers.values())
        return next((text for text in troubles if text is not None), None)

    def caller(self, request: Request) -> Caller:
        """Return who sent a request. Raise RequestError with status 401."""
        return self.keys.caller(request.headers.get("authorization"))

    def submit(self, caller: Caller, model: str | None, fields: Mapping[str, Any]) -> StoredJob:
        """Return a new job for the fields of a request. Raise RequestError."""
        model = next(iter(self.models)) if model is None else model
        worker = self._worker(model)
        info = worker.info
        if info is None or self.is_ending:
            state = "ends" if self.is_ending else f"opens {worker.model}"
            raise RequestError(503, f"the server {state}; come again", retry_after=1)
        wanted = read_wanted(fields, info.geometries, caller)
        arguments = wanted.arguments | {"num_inference_steps": _steps(info, wanted.arguments)}
        retry = max(1, math.ceil(min(worker.mean_seconds, 3600)))
        job = self.store.add(caller, model, arguments, wanted.fps, wanted.priority, retry)
        self.metrics.accepted.inc()
        _LOG.info("%s", f"{job.id}: queued", extra={"numbers": {"job": job.id, "caller": caller.name}})
        worker.wake()
        return job

    async def find(self, request: Request) -> StoredJob:
        """Return the job that a path names by its `id`. Raise RequestError with status 404 for none of the caller's."""
        name = request.path_params["id"]
        job = await run_in_threadpool(self.store.find, self.caller(request), name)
        if job is None:
            raise RequestError(404, f"there is no video {shown(name)}; it was deleted, or not made here", "id")
        return job

    def progress(self, job: StoredJob) -> Progress:
        """Return how far a job is; one that does not run has its status as its phase."""
        worker = self.models.get(job.model)
        running = worker.progress.get(job.id) if worker is not None else None
        if running is not None:
            return running
        steps = int(job.arguments["num_inference_steps"])
        done = steps if job.status == COMPLETED else 0
        return Progress(job.id, "wait" if job.status == QUEUED else job.status, done, steps)

    def cancel(self, caller: Caller, name: str) -> StoredJob | None:
        """Cancel a job and tell of it; None where the caller has no such unfinished job."""
        job = self.store.cancel(caller, name)
        self._changed()
        return job

    def delete(self, caller: Caller, name: str) -> None:
        """Forget a job, if the caller has it, and tell of it."""
        self.store.delete(caller, name)
        self._changed()

    async def changes(self, seen: int, seconds: float) -> bool:
        """Wait until `version` is no longer `seen`, `seconds` at most; tell whether it came to that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.version == seen:
                    await self._change.wait()
        return self.version != seen

    def _watch(self) -> None:
        """End the service where a worker is in trouble, some time after the probe for liveness says so."""
        since: float | None = None
        while not self._closed.wait(_LOOK):
            trouble = self.trouble()
            since = None if trouble is None else since or time.monotonic()
            if trouble is not None and since is not None and time.monotonic() - since >= _GRACE:
                self._gone_wrong(BackendError(f"{trouble}; start the server again, its jobs are kept"))
                return

    def _worker(self, model: str) -> Worker:
        if model not in self.models:
            known = ", ".join(self.models)
            raise RequestError(404, f"there is no model {shown(model)}; this server has {known}", "model")
        return self.models[model]

    def _changed(self) -> None:
        self._in_loop(self._tell_of_jobs)

    def _came_further(self) -> None:
        self._in_loop(self._tell)

    def _tell_of_jobs(self) -> None:
        self.jobs_version += 1
        self._tell()

    def _tell(self) -> None:
        self.version += 1
        if not self._was_ready and self.is_ready():
            self._was_ready = True
            self.on_ready()
        self._change.set()
        self._change = asyncio.Event()

    def _gone_wrong(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._in_loop(self.on_failure)

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)


def _steps(info: BundleInfo, arguments: Mapping[str, Any]) -> int:
    """Return how many steps a video of these arguments has. Raise RequestError for what the pipeline would refuse."""
    try:
        return int(str(info.resolve(**arguments)["steps"]))
    except MochiError as error:
        raise RequestError(400, str(error)) from None
